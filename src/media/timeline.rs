//! Carries the timestamps of a received stream over to the stream we send, across clock rates.

use super::rtp::timestamp_distance;

/// A fixed relation between two RTP clocks, established at one packet and true for the rest of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    from_rate: u32,
    to_rate: u32,
    from: u32,
    to: u32,
}

impl Timeline {
    /// `from` of the received stream is the same moment as `to` of ours. Rates in Hz.
    pub fn new(from_rate: u32, to_rate: u32, from: u32, to: u32) -> Timeline {
        Timeline { from_rate, to_rate, from, to }
    }

    /// Our timestamp for one of theirs, rounded down to our clock.
    #[inline]
    pub fn map(&self, timestamp: u32) -> u32 {
        let ahead = i64::from(timestamp_distance(self.from, timestamp));
        let scaled = (ahead * i64::from(self.to_rate)).div_euclid(i64::from(self.from_rate));
        self.to.wrapping_add(scaled as u32)
    }

    /// Moves the anchor along, so that the distance to it stays far from the 2^31 where it would turn negative.
    #[inline]
    pub fn advance(&mut self, timestamp: u32) {
        let ahead = timestamp_distance(self.from, timestamp);
        // A whole number of seconds is whole in both clocks: nothing is rounded away over the hours.
        let seconds = ahead.div_euclid(self.from_rate as i32);
        if seconds > 0 {
            self.from = self.from.wrapping_add(seconds as u32 * self.from_rate);
            self.to = self.to.wrapping_add(seconds as u32 * self.to_rate);
        }
    }
}

/// `duration` of one clock in units of another, rounded to nearest.
#[inline]
pub fn rescale(duration: u32, from_rate: u32, to_rate: u32) -> u32 {
    if from_rate == to_rate {
        return duration;
    }
    ((u64::from(duration) * u64::from(to_rate) + u64::from(from_rate) / 2) / u64::from(from_rate)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_opus_keeps_its_place_in_g711_over_every_wrap() {
        let (start, origin) = (u32::MAX - 1000, 77u32);
        let mut line = Timeline::new(48_000, 8_000, start, origin);
        for packet in 0..(24 * 3600 * 50u64) {
            let timestamp = (u64::from(start) + packet * 960) as u32;
            line.advance(timestamp);
            assert_eq!(line.map(timestamp), (u64::from(origin) + packet * 160) as u32, "packet {packet}");
        }
    }

    #[test]
    fn what_is_earlier_maps_to_earlier() {
        let line = Timeline::new(8_000, 48_000, 1000, 5);
        assert_eq!(line.map(840), 5u32.wrapping_sub(960));
        let down = Timeline::new(48_000, 8_000, 960, 160);
        assert_eq!(down.map(959), 159, "rounded down, also backwards");
    }

    #[test]
    fn durations_scale_to_the_nearest_unit() {
        assert_eq!(rescale(160, 8_000, 48_000), 960);
        assert_eq!(rescale(960, 48_000, 8_000), 160);
        assert_eq!(rescale(963, 48_000, 8_000), 161);
        assert_eq!(rescale(5, 8_000, 8_000), 5);
    }
}
