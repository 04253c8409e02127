#!/usr/bin/env bash
# Submit all that a dataset's table takes: a fit for each recipe that its suite names, the sweep of the suite, the table.
#
#   slurm/submit.sh [--dry-run] <dataset> [options of sbatch for the fits and the sweep]
#
# The sweep begins when all fits have ended well. When one fails, the sweep and the table are cancelled: look at the fit's
# output, and submit the same again, which does nothing for what is finished. The table comes when the sweep has ended,
# well or not, and says what is missing. The numbers of the jobs are printed; with --dry-run, only the commands are.
#
# Variables, besides those of the scripts:
#   ARRAY  tasks of the sweep (0-3)
#   SUITE  its YAML (benchmarks/paper/<dataset>.yaml, or else benchmarks/<dataset>.yaml)
set -euo pipefail

dry=
[ "${1:-}" != --dry-run ] || { dry=yes; shift; }
dataset=${1:?name a dataset that has a suite}
shift
scripts=$(dirname "$0")

suite=${SUITE:-benchmarks/paper/$dataset.yaml}
[ -n "${SUITE:-}" ] || [ -f "$suite" ] || suite=benchmarks/$dataset.yaml
[ -f "$suite" ] || { echo "error: $suite: no such suite; name one as SUITE" >&2; exit 2; }
read -ra container <<<"${CONTAINER:-}"
python=${PYTHON:-${AMED_HOME:-$PWD}/.venv/bin/python}
recipes=$(${container[@]+"${container[@]}"} "$python" -m amed_lightning bench recipes "$suite")

submitted=
# submit NAME WORDS... calls sbatch and leaves the job's number in `number`.
submit() {
  local name=$dataset-$1
  shift
  if [ -n "$dry" ]; then
    number="<$name>"
    printf '%q ' sbatch --job-name="$name" "$@" | sed 's/ $//; s/\\\([<>,]\)/\1/g'
    echo
  else
    number=$(sbatch --parsable --job-name="$name" "$@") ||
      { echo "error: $name was refused${submitted:+; to cancel the others: scancel$submitted}" >&2; exit 1; }
    number=${number%%;*}
    submitted="$submitted $number"
    echo "$name: $number"
  fi
}

fits=
while read -ra recipe; do
  [ ${#recipe[@]} -gt 0 ] || continue
  name=$(basename "${recipe[0]}" .yaml)
  [ -z "${recipe[1]:-}" ] || name=$name-${recipe[1]##*=}
  submit "$name" "$@" "$scripts/fit.sbatch" ${recipe[@]+"${recipe[@]}"} </dev/null
  fits=$fits:$number
done <<<"$recipes"
submit sweep --array="${ARRAY:-0-3}" ${fits:+--dependency="afterok$fits"} --kill-on-invalid-dep=yes "$@" \
  "$scripts/bench_array.sbatch" "$suite"
submit table --dependency="${fits:+afterok$fits,}afterany:$number" --kill-on-invalid-dep=yes "$scripts/table.sbatch" "$suite"
