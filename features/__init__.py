"""One definition of every feature and one kernel that computes them, for batch, stream and single payments."""
