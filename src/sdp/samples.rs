//! Descriptions as real stacks write them, for the tests; they seed the fuzzer too.

/// Linphone 5: several voice codecs, events at two rates, RTCP feedback, video beside.
pub const LINPHONE: &str = include_str!("samples/linphone.sdp");

/// Linphone with mandatory SRTP.
pub const LINPHONE_SRTP: &str = include_str!("samples/linphone_srtp.sdp");

/// baresip 1.0: Opus with stereo parameters, RTCP written out, events at 8000 only.
pub const BARESIP: &str = include_str!("samples/baresip.sdp");

/// baresip with `mediaenc=srtp`: keys under RTP/AVP, SRTP if the other side can.
pub const BARESIP_OPTIONAL_SRTP: &str = include_str!("samples/baresip_optional_srtp.sdp");

/// A browser: DTLS-SRTP, ICE, BUNDLE.
pub const CHROME: &str = include_str!("samples/chrome.sdp");

/// Asterisk: G.711 A-law first, T.38 parameters absent, maxptime.
pub const ASTERISK: &str = include_str!("samples/asterisk.sdp");

/// Cisco: address at media level only, G.729 first.
pub const CISCO: &str = include_str!("samples/cisco.sdp");

/// Twilio: PCMU first, static types unmapped.
pub const TWILIO: &str = include_str!("samples/twilio.sdp");

/// A fax machine's adapter moving to T.38: the audio is ended, an image stream begins.
pub const T38: &str = include_str!("samples/t38.sdp");

/// An adapter that offers voice and fax together.
pub const AUDIO_AND_T38: &str = include_str!("samples/audio_and_t38.sdp");

/// A snom-like phone that offers SRTP and plain RTP as two streams.
pub const SECURE_THEN_PLAIN: &str = include_str!("samples/secure_then_plain.sdp");

/// IPv6 all through.
pub const IPV6: &str = include_str!("samples/ipv6.sdp");

pub const ALL: [&str; 12] = [
    LINPHONE,
    LINPHONE_SRTP,
    BARESIP,
    BARESIP_OPTIONAL_SRTP,
    CHROME,
    ASTERISK,
    CISCO,
    TWILIO,
    T38,
    AUDIO_AND_T38,
    SECURE_THEN_PLAIN,
    IPV6,
];
