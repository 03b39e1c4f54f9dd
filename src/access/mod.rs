//! App users: credentials, registrations, and protection from guessing and floods.

mod directory;
mod flood;
mod guard;
mod registrar;

pub use directory::{Credentials, Directory, DirectoryError, User, UserSource};
pub use flood::{Admission, FloodGuard, FloodSettings};
pub use guard::{GuardSettings, LoginGuard, Verdict};
pub use registrar::{
    Binding, Contact, Contacts, Register, RegisterError, Registrar, RegistrarOutput, RegistrarSettings,
    RemovedBecause, StoredBinding,
};
