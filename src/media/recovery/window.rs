//! How long a gap is worth waiting for where single packets take another way: not at all while none was overtaken, else
//! about as long as the ones that were took. What all packets' transit times say is `spread`'s.

use std::time::Duration;

/// No gap is waited for longer: what is held meanwhile reaches the listener late.
pub const WIDEST: Duration = Duration::from_millis(80);
/// Waited beyond the lateness that was seen.
const MARGIN: Duration = Duration::from_millis(5);
/// So many gaps in a row that nobody filled end the waiting: the packets are lost, not late.
const TRUST: u8 = 12;
/// The window follows smaller lateness by this part of the difference a packet.
const EASE: u32 = 64;

/// Zero until a packet was overtaken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    width: Duration,
    trust: u8,
}

impl Window {
    /// How long to wait for the packets of a gap.
    #[inline]
    pub fn width(&self) -> Duration {
        self.width
    }

    /// A packet came so long after the gap it belongs in was seen.
    pub fn overtaken(&mut self, lateness: Duration) {
        if lateness > WIDEST {
            return;
        }
        let wanted = (lateness + MARGIN).min(WIDEST);
        self.width = if wanted > self.width { wanted } else { self.width - (self.width - wanted) / EASE };
        self.trust = TRUST;
    }

    /// A gap was waited for in vain.
    pub fn unfilled(&mut self) {
        self.trust = self.trust.saturating_sub(1);
        if self.trust == 0 {
            self.width = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_waited_for_until_a_packet_was_overtaken() {
        let mut window = Window::default();
        window.unfilled();
        assert_eq!(window.width(), Duration::ZERO);
        window.overtaken(20 * MS);
        assert_eq!(window.width(), 25 * MS);
    }

    #[test]
    fn it_widens_at_once_to_its_limit_and_narrows_slowly() {
        let mut window = Window::default();
        window.overtaken(78 * MS);
        assert_eq!(window.width(), WIDEST);
        window.overtaken(300 * MS);
        assert_eq!(window.width(), WIDEST, "so late that no waiting helps");
        window.overtaken(15 * MS);
        assert_eq!(window.width(), 80 * MS - 60 * MS / EASE);
        (0..400).for_each(|_| window.overtaken(15 * MS));
        assert!((20 * MS..22 * MS).contains(&window.width()));
    }

    #[test]
    fn gaps_that_nobody_fills_end_it_unless_one_is_filled_in_between() {
        let mut window = Window::default();
        window.overtaken(20 * MS);
        (1..TRUST).for_each(|_| window.unfilled());
        assert!(window.width() > Duration::ZERO);
        window.overtaken(20 * MS);
        (1..TRUST).for_each(|_| window.unfilled());
        assert!(window.width() > Duration::ZERO);
        window.unfilled();
        assert_eq!(window.width(), Duration::ZERO);
    }
}
