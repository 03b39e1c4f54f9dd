//! A test phone, an operator and load: used by the demo, the tests and users.
