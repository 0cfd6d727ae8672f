"""What several commands share: flags and their mistakes, drawing, figures, timings."""
