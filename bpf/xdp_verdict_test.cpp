// Fixture and tests of the XDP program.
