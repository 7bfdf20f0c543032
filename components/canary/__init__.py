"""Ask stable and candidate the same questions, and decide on the evidence."""
