"""The benchmark: cells, the runner that fills them, and the tables and plots that rows become."""
