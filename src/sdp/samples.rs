//! Descriptions as real stacks write them, for the tests.
