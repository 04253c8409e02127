"""The teacher: fine trajectories, computed once, and the store that keeps them."""
