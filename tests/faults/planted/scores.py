"""Faults of scores and what a benchmark makes of them."""

from .fault import in_file

FAULTS = (
    *in_file(
        "metrics/frechet.py",
        "metrics/test_frechet.py",
        ("FID's trace is counted once", "traces - 2 * values", "traces - values"),
        ("covariances are over N", "/ (count - 1))", "/ count)"),
        ("a square root is missing", "(vectors * values.clamp(min=0).sqrt())", "(vectors * values.clamp(min=0))"),
        (
            "the distance of the means is not squared",
            "(reference.mean - other.mean).square().sum()",
            "(reference.mean - other.mean).abs().sum()",
        ),
    ),
    *in_file(
        "metrics/inception_score.py",
        "metrics/test_scores.py",
        ("a split begins an image late", "bounds, right=True", "bounds, right=False"),
        ("the marginal's entropy is of sums", "probability[filled] / count[filled][:, None]", "probability[filled]"),
    ),
    *in_file(
        "metrics/inception_score.py",
        "metrics/test_scores.py::TestAgainstTorchFidelity::test_is_and_its_deviation_are_the_same_without_shuffling",
        ("there are five splits", "NUM_SPLITS = 10\n", "NUM_SPLITS = 5\n"),
    ),
    *in_file(
        "metrics/inception_score.py",
        "metrics/test_scores.py",
        ("the deviation over splits is the sample's", "splits.std(correction=0)", "splits.std(correction=1)"),
    ),
    *in_file(
        "metrics/paired.py",
        "metrics/test_scores.py",
        ("decibels are below 1", "PIXEL_RANGE = 2.0", "PIXEL_RANGE = 1.0"),
        ("decibels are of a power", "20 * math.log10", "10 * math.log10"),
        ("RMSE is a mean over images", "new_full((), images.numel())", "new_full((), len(images))"),
    ),
    *in_file(
        "metrics/feature_metrics.py",
        "metrics/test_feature_metrics.py",
        ("KID's kernel is a square", "KID_DEGREE, KID_CONSTANT = 3, 1", "KID_DEGREE, KID_CONSTANT = 2, 1"),
        ("KID's kernel has no constant", "KID_DEGREE, KID_CONSTANT = 3, 1", "KID_DEGREE, KID_CONSTANT = 3, 0"),
        (
            "KID's product is not divided by its length",
            "kid_kernel_poly_gamma=1 / real.shape[1]",
            "kid_kernel_poly_gamma=1.0",
        ),
        (
            "KID's subsets are fewer",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 50, 1000, 2020",
        ),
        (
            "KID's subsets are smaller",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 500, 2020",
        ),
        (
            "KID's subsets are others",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2021",
        ),
        ("precision looks at five neighbours", "NEIGHBOURS = 3", "NEIGHBOURS = 5"),
    ),
    *in_file(
        "metrics/cmmd.py",
        "metrics/test_encoders.py::TestCMMD",
        ("CMMD's kernel is narrower", "BANDWIDTH, SCALE = 10.0, 1000.0", "BANDWIDTH, SCALE = 9.0, 1000.0"),
        ("CMMD's kernel lacks its factor of two", "/ (2 * BANDWIDTH**2)", "/ BANDWIDTH**2"),
        ("CMMD counts the mixed pairs once", "- 2 * _mean_kernel(x, y)", "- _mean_kernel(x, y)"),
    ),
    *in_file(
        "metrics/clip_score.py",
        "metrics/test_encoders.py::TestCLIPScore",
        ("CLIP score is the paper's", "SCALE = 100.0", "SCALE = 250.0"),
    ),
    *in_file(
        "metrics/encoders.py",
        "metrics/test_encoders.py::TestDINOv2",
        ("a squeezed image is not clipped", "self.squeezed(images).clip(0, 255)", "self.squeezed(images)"),
        ("images are not antialiased", 'mode="bicubic", antialias=True', 'mode="bicubic"'),
    ),
    *in_file(
        "metrics/inception.py",
        "metrics/test_spatial_fid.py",
        ("sFID is on eight channels", "= 7, 17 * 17", "= 8, 17 * 17"),
        ("sFID is on another block", "Mixed_6d.branch1x1", "Mixed_6c.branch1x1"),
        ("sFID's channels come first", "permute(0, 2, 3, 1).flatten(1)", "flatten(1)"),
    ),
    *in_file(
        "bench/jackknife.py",
        "bench/test_jackknife.py::TestError",
        ("the jackknife's factor is a variance's", "math.sqrt((count - 1) / count *", "math.sqrt(1 / (count - 1) *"),
    ),
    *in_file(
        "bench/jackknife.py",
        "bench/test_jackknife.py::TestPairedTest::test_its_bound_is_student_s_of_the_tables",
        ("the test has one side", "1 - LEVEL / 2", "1 - LEVEL"),
        (
            "Student's t has a degree too many",
            "stdtrit(len(self.leave_one_out) - 1,",
            "stdtrit(len(self.leave_one_out),",
        ),
        ("one in ten is told apart by chance", "LEVEL = 0.05", "LEVEL = 0.1"),
    ),
    *in_file(
        "metrics/inception_score.py",
        "bench/test_table.py::TestWinners",
        ("the lowest IS wins", 'Score("IS", "higher", 2', 'Score("IS", "lower", 2'),
    ),
    *in_file(
        "bench/table.py",
        "bench/test_table.py::TestWinners",
        (
            "the best alone is bold",
            "(estimate(row, score) - top).is_told_from_zero",
            "(estimate(row, score) - top).value",
        ),
    ),
    *in_file(
        "bench/golden.py",
        "bench/test_golden.py",
        ("a night's bound is absolute", "bound * abs(golden.values[score])", "bound"),
        (
            "a night's bound is the smaller of two",
            "standard_errors * difference.error > bound",
            "standard_errors * difference.error < bound",
        ),
    ),
    *in_file(
        "bench/results.py",
        "bench/test_block.py::TestSums",
        ("a matrix is kept whole", "name + TRIANGLE, value[_lower(len(value))]", "name, value"),
        ("any square matrix is kept as a triangle", " and value.equal(value.mT):", ":"),
        ("a triangle is read as half of its matrix", "    matrix.mT[lower] = value", "    matrix.mT[lower] = 0"),
    ),
    *in_file(
        "bench/sweep.py",
        "bench/test_sweep.py::test_the_longest_cells_come_first_and_the_reference_before_all",
        ("the shortest cells come first", "cell.nfe, reverse=True", "cell.nfe"),
    ),
    *in_file(
        "bench/cell.py",
        "bench/test_memory.py",
        ("two datasets' weights are in memory", "            self._kept.clear()\n", "            pass\n"),
        ("real images are looked at before the processes start", "    launch()\n    return [", "    return ["),
    ),
    *in_file(
        "runtime/micro_batches.py",
        "runtime/test_micro_batches.py",
        ("a store of another micro-batch has its name", "    if room < size:", "    if False:"),
    ),
    *in_file(
        "cli/evaluate.py",
        "cli/test_memory.py",
        (
            "scores of half the micro-batch are of the whole one's protocol",
            "evaluator.digest, batch_size]",
            "evaluator.digest, options.batch_size]",
        ),
    ),
    *in_file(
        "cli/sample.py",
        "cli/test_memory.py",
        ("an image does not say its smaller micro-batch", '{"batch_size": size}', "{}"),
    ),
    *in_file(
        "metrics/kept.py",
        "metrics/test_kept.py",
        (
            "a kept reference stands for other images",
            "read_statistics(file).dataset == pixels",
            "bool(read_statistics(file))",
        ),
        ("every process looks at real images", '_told(place).get("job") == job', "False"),
        ("references of another version count", "digest([name, self.version])", "digest([name])"),
    ),
    *in_file(
        "metrics/fid.py",
        "bench/test_golden.py",
        ("a figure moves ten times as far", "tolerance=1e-4", "tolerance=1e-3"),
    ),
    *in_file(
        "bench/golden.py",
        "bench/test_golden.py",
        ("a predictor's figure moves twice as far", "standard_errors: float = 3.0", "standard_errors: float = 6.0"),
    ),
)
