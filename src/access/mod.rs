//! App users: credentials and registrations.
