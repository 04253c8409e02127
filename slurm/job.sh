# What the batch scripts share. They source it; it is no job of its own.
#
# Variables, with their defaults, for `sbatch --export=ALL,NAME=VALUE` or the submitting shell:
#   AMED_HOME        the checkout (the directory that sbatch was called in)
#   SETUP            a file that is sourced first, for `module load`, `conda activate` and variables, these too (none)
#   PYTHON           the interpreter ($AMED_HOME/.venv/bin/python)
#   CONTAINER        words that go before it, like `apptainer exec --nv image.sif` (none)
#   FIRST_PORT       ports from here on are for this project's jobs (20000)
#   GRACE_SECONDS    longer than the cluster's grace time between TERM and the end of a preempted job (600)
#   REQUEUE_ON_TERM  `true` where TERM comes before every end, and nothing is requeued by the cluster (false)
#
# Bash 4.2, which old systems have, takes an empty array for an unset variable: hence ${x[@]+"${x[@]}"}.
# shellcheck shell=bash
set -uo pipefail

AMED_HOME=${AMED_HOME:-$SLURM_SUBMIT_DIR}
if [ -n "${SETUP:-}" ]; then
  # It is not written for `set -u`, and what it sees as its arguments must not be the job's.
  words=("$@")
  set --
  set +u
  # shellcheck disable=SC1090
  . "$(realpath "$SETUP")" || { echo "error: SETUP=$SETUP has failed" >&2; exit 2; }
  set +e -u
  set -- ${words[@]+"${words[@]}"}
fi
PYTHON=${PYTHON:-$AMED_HOME/.venv/bin/python}
FIRST_PORT=${FIRST_PORT:-20000}
GRACE_SECONDS=${GRACE_SECONDS:-600}
REQUEUE_ON_TERM=${REQUEUE_ON_TERM:-false}
read -ra container <<<"${CONTAINER:-}"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# srun has not taken this from the job itself since SLURM 22.05.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# The number of an array's own job stands for all its tasks.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
steps=0 ending=

# Signals are for the step's processes. Those that come to this shell, too, must not end it before them.
trap : USR1
trap 'ending=yes' TERM

# step WORDS... runs `amed-lightning WORDS...` on all tasks of the job. Two steps of one job never share a port.
step() {
  steps=$((steps + 1))
  export MASTER_PORT=$((FIRST_PORT + (SLURM_JOB_ID * 8 + steps) % 8192))
  srun ${container[@]+"${container[@]}"} "$PYTHON" -m amed_lightning "$@"
}

requeue() {
  # It fails where the processes have asked for the same thing already, or where there is no scontrol.
  scontrol requeue "$job" || echo "$job: not requeued from here" >&2
}

# finish CODE ends the job, or has it requeued: 85 asks for that, 143 says that TERM came.
finish() {
  [ "$1" = 85 ] && requeue
  if [ "$1" = 143 ] && [ -z "$ending" ]; then
    # The step was told to end and this shell was not: that is a preemption with a grace time. SLURM requeues the jobs
    # that it stops itself, and not one that has left before, so stay until it does.
    [ "$REQUEUE_ON_TERM" = true ] && requeue
    local end=$((SECONDS + GRACE_SECONDS))
    while [ -z "$ending" ] && [ "$SECONDS" -lt "$end" ]; do sleep 1; done
  fi
  exit "$1"
}
