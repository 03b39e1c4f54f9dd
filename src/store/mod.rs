//! The database: users, registrations, CDRs, on SQLite and PostgreSQL.
