"""Everything that would stay if HTTP went away."""
