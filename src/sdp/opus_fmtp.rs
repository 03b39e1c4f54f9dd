//! The parameters of Opus in `a=fmtp` (RFC 7587 §6.1): what we ask for, and what the far side asks of us.

use std::fmt::Write;

/// What we tell the far side about the Opus we like to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusParams {
    /// Bits per second.
    pub max_average_bitrate: u32,
    /// We make use of in-band FEC.
    pub fec: bool,
    /// The far side may stop sending in silence.
    pub dtx: bool,
    /// Hz; what is above is wasted on us. 48000 is not written.
    pub max_playback_rate: u32,
    /// Hz; what is above is not in what we send. 48000 is not written.
    pub max_capture_rate: u32,
}

impl Default for OpusParams {
    /// 24 kbit/s is transparent for one voice; the rates stay open, because app users among themselves keep the full
    /// band.
    fn default() -> OpusParams {
        OpusParams {
            max_average_bitrate: 24_000,
            fec: true,
            dtx: true,
            max_playback_rate: 48_000,
            max_capture_rate: 48_000,
        }
    }
}

impl OpusParams {
    /// The far end is a telephone: neither way holds more than 4 kHz of sound, and no bit is to be spent on more.
    pub fn narrowband(self) -> OpusParams {
        OpusParams { max_playback_rate: 8_000, max_capture_rate: 8_000, ..self }
    }

    /// The text behind `a=fmtp:PT `.
    pub fn to_fmtp(self) -> String {
        let mut text = String::new();
        if self.max_playback_rate != 48_000 {
            let _ = write!(text, "maxplaybackrate={};", self.max_playback_rate);
        }
        if self.max_capture_rate != 48_000 {
            let _ = write!(text, "sprop-maxcapturerate={};", self.max_capture_rate);
        }
        let _ =
            write!(text, "maxaveragebitrate={};useinbandfec={}", self.max_average_bitrate, self.fec as u8);
        if self.dtx {
            text.push_str(";usedtx=1");
        }
        text
    }
}

/// What the far side asks of the Opus we send. Defaults are RFC 7587 §6.1's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusRemote {
    /// Hz, 8000 to 48000.
    pub maxplaybackrate: u32,
    /// Bits per second, 6000 to 510000; `None`: as we like.
    pub maxaveragebitrate: Option<u32>,
    pub useinbandfec: bool,
    pub usedtx: bool,
    pub stereo: bool,
    pub cbr: bool,
    /// The longest packet it takes in milliseconds, 10 to 60; from `a=maxptime`, not from `a=fmtp`.
    pub max_ptime_ms: u8,
}

impl Default for OpusRemote {
    fn default() -> OpusRemote {
        OpusRemote {
            maxplaybackrate: 48_000,
            maxaveragebitrate: None,
            useinbandfec: false,
            usedtx: false,
            stereo: false,
            cbr: false,
            max_ptime_ms: 60,
        }
    }
}

impl OpusRemote {
    /// Reads the text behind `a=fmtp:PT `. Values out of range are clamped, unknown parameters passed over
    /// (RFC 7587 §7: unknown parameters must be ignored).
    pub fn parse(text: &str) -> OpusRemote {
        let mut remote = OpusRemote::default();
        for part in text.split(';') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim());
            let flag = || value == "1" || value.eq_ignore_ascii_case("true");
            if name.eq_ignore_ascii_case("maxplaybackrate") {
                if let Ok(rate) = value.parse::<u32>() {
                    remote.maxplaybackrate = rate.clamp(8_000, 48_000);
                }
            } else if name.eq_ignore_ascii_case("maxaveragebitrate") {
                remote.maxaveragebitrate = value.parse::<u32>().ok().map(|rate| rate.clamp(6_000, 510_000));
            } else if name.eq_ignore_ascii_case("useinbandfec") {
                remote.useinbandfec = flag();
            } else if name.eq_ignore_ascii_case("usedtx") {
                remote.usedtx = flag();
            } else if name.eq_ignore_ascii_case("stereo") {
                remote.stereo = flag();
            } else if name.eq_ignore_ascii_case("cbr") {
                remote.cbr = flag();
            }
        }
        remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_write_reads_back() {
        let ours =
            OpusParams { max_average_bitrate: 20_000, max_playback_rate: 16_000, ..OpusParams::default() };
        let read = OpusRemote::parse(&ours.to_fmtp());
        assert_eq!(read.maxplaybackrate, 16_000);
        assert_eq!(read.maxaveragebitrate, Some(20_000));
        assert!(read.useinbandfec && read.usedtx && !read.stereo);
    }

    #[test]
    fn a_telephone_behind_us_asks_for_no_more_than_it_can_play() {
        let open = OpusParams::default().to_fmtp();
        assert_eq!(open, "maxaveragebitrate=24000;useinbandfec=1;usedtx=1");
        let narrow = OpusParams::default().narrowband().to_fmtp();
        assert_eq!(narrow, format!("maxplaybackrate=8000;sprop-maxcapturerate=8000;{open}"));
    }

    #[test]
    fn real_parameter_lines_are_understood() {
        let chrome = OpusRemote::parse("minptime=10;useinbandfec=1");
        assert!(chrome.useinbandfec && chrome.maxplaybackrate == 48_000);
        let whatsapp = OpusRemote::parse("maxaveragebitrate=20000; maxplaybackrate=16000; useinbandfec=1");
        assert_eq!((whatsapp.maxaveragebitrate, whatsapp.maxplaybackrate), (Some(20_000), 16_000));
        let baresip = OpusRemote::parse("stereo=1;sprop-stereo=1;cbr=0;usedtx=0");
        assert!(baresip.stereo && !baresip.cbr && !baresip.usedtx);
    }

    #[test]
    fn absurd_values_are_clamped_and_garbage_is_ignored() {
        let odd = OpusRemote::parse("maxplaybackrate=1;maxaveragebitrate=4294967295;=;;useinbandfec=yes;x");
        assert_eq!((odd.maxplaybackrate, odd.maxaveragebitrate), (8_000, Some(510_000)));
        assert!(!odd.useinbandfec);
    }
}
