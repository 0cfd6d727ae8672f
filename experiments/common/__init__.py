"""What several commands share: flags and usage errors, drawing, figures, timings."""
