//! App users: credentials, registrations, and protection from guessing and floods.

mod directory;
mod flood;
mod guard;
mod registrar;
mod source;

pub use directory::{Credentials, Directory, DirectoryError, User, UserSource};
pub use flood::{Admission, FloodGuard, FloodSettings};
pub use guard::{GuardSettings, LoginGuard, Verdict};
pub use registrar::{
    Binding, Contact, Contacts, Register, RegisterError, Registrar, RegistrarOutput, RegistrarSettings,
    RemovedBecause, StoredBinding,
};
pub use source::Source;
