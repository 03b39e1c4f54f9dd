//! Voice in and out of its coded forms.

pub mod background;
pub mod bridging;
pub mod comfort_noise;
pub mod concealment;
pub mod g711;
pub mod opus;

#[cfg(test)]
pub mod speech;
