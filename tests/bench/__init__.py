"""The benchmarks measure what they say: each row is tried against both programs, and fails where it must."""
