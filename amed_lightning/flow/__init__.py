"""What is the slope of the probability-flow ODE here? Models, their denoisers, and the flow that asks them."""
