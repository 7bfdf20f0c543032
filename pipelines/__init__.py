"""What runs where, in which order, when: the command, the plan, and its engines."""
