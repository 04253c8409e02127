"""A solver turns the flow's answers into the next state, with no other input."""
