//! The shell of signed identities: our own key, files, and the fetching of certificates.

mod fetch;
mod key;
mod load;

pub use fetch::{FetchFault, Fetched, Https, fetch};
pub use key::{Key, KeyFault};
pub use load::{Files, LoadFault, Loaded, load};
