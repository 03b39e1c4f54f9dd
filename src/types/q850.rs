//! ITU-T Q.850 causes and SIP statuses, each way, as RFC 3398 translates them.

/// The SIP status of a Q.850 cause (RFC 3398 §7.2.4.1); causes it does not name by their class. `None` where the
/// cause is no failure (16).
pub fn to_sip(cause: u8) -> Option<u16> {
    Some(match cause {
        1..=3 => 404,
        16 => return None,
        17 => 486,
        18 => 408,
        19 | 20 => 480,
        21 => 403,
        22 | 23 => 410,
        26 => 404,
        27 => 502,
        28 => 484,
        29 => 501,
        31 => 480,
        34 | 38 | 41 | 42 | 47 => 503,
        55 | 57 => 403,
        58 => 503,
        65 | 70 => 488,
        79 => 501,
        87 => 403,
        88 => 503,
        102 => 504,
        111 | 127 => 500,
        // What the RFC leaves open goes by the class of the cause (ITU-T Q.850 §2.1).
        _ => match cause / 16 {
            0 | 1 => 480,
            2 => 503,
            3 => 403,
            4 => 501,
            _ => 500,
        },
    })
}

/// The Q.850 cause of a final SIP status (RFC 3398 §8.2.6.1). `None` where the status has none: a request that was
/// taken back (487), a session that nobody could agree on (488, 606: its Warning says more), and no failure at all.
pub fn from_sip(status: u16) -> Option<u8> {
    Some(match status {
        400 => 41,
        401..=403 | 407 => 21,
        404 => 1,
        405 => 63,
        406 => 79,
        408 => 102,
        410 => 22,
        413 | 414 => 127,
        415 => 79,
        416 | 420 | 421 | 423 => 127,
        480 => 18,
        481 => 41,
        482 | 483 => 25,
        484 => 28,
        485 => 1,
        486 => 17,
        487 | 488 => return None,
        500 => 41,
        501 => 79,
        502 => 38,
        503 => 41,
        504 => 102,
        505 | 513 => 127,
        600 => 17,
        603 | 607 | 608 => 21,
        604 => 1,
        606 => return None,
        // Statuses younger than the RFC, by their class.
        _ => match status / 100 {
            4 => 127,
            5 => 41,
            6 => 21,
            _ => return None,
        },
    })
}

/// What a cause means, as the text of a Reason header.
pub fn meaning(cause: u8) -> &'static str {
    match cause {
        1 => "Unallocated number",
        2 | 3 => "No route to destination",
        16 => "Normal call clearing",
        17 => "User busy",
        18 => "No user responding",
        19 => "No answer from user",
        20 => "Subscriber absent",
        21 => "Call rejected",
        22 => "Number changed",
        23 => "Redirection to new destination",
        25 => "Exchange routing error",
        26 => "Non-selected user clearing",
        27 => "Destination out of order",
        28 => "Invalid number format",
        29 => "Facility rejected",
        31 => "Normal, unspecified",
        34 => "No circuit available",
        38 => "Network out of order",
        41 => "Temporary failure",
        42 => "Switching equipment congestion",
        47 => "Resource unavailable",
        55 => "Incoming calls barred",
        57 => "Bearer capability not authorized",
        58 => "Bearer capability not available",
        63 => "Service or option not available",
        65 => "Bearer capability not implemented",
        70 => "Only restricted digital information available",
        79 => "Service or option not implemented",
        87 => "User not member of group",
        88 => "Incompatible destination",
        102 => "Recovery on timer expiry",
        111 => "Protocol error",
        127 => "Interworking, unspecified",
        _ => match cause / 16 {
            0 | 1 => "Normal event",
            2 => "Resource unavailable",
            3 => "Service not available",
            4 => "Service not implemented",
            5 => "Invalid message",
            _ => "Protocol error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_of_rfc_3398_section_7_2_4_1_has_its_status() {
        for (cause, status) in [
            (1, 404),
            (2, 404),
            (3, 404),
            (17, 486),
            (18, 408),
            (19, 480),
            (20, 480),
            (21, 403),
            (22, 410),
            (23, 410),
            (26, 404),
            (27, 502),
            (28, 484),
            (29, 501),
            (31, 480),
            (34, 503),
            (38, 503),
            (41, 503),
            (42, 503),
            (47, 503),
            (55, 403),
            (57, 403),
            (58, 503),
            (65, 488),
            (70, 488),
            (79, 501),
            (87, 403),
            (88, 503),
            (102, 504),
            (111, 500),
            (127, 500),
        ] {
            assert_eq!(to_sip(cause), Some(status), "{cause}");
        }
        assert_eq!(to_sip(16), None);
    }

    #[test]
    fn every_status_of_rfc_3398_section_8_2_6_1_has_its_cause() {
        for (status, cause) in [
            (400, 41),
            (401, 21),
            (402, 21),
            (403, 21),
            (404, 1),
            (405, 63),
            (406, 79),
            (407, 21),
            (408, 102),
            (410, 22),
            (413, 127),
            (414, 127),
            (415, 79),
            (416, 127),
            (420, 127),
            (421, 127),
            (423, 127),
            (480, 18),
            (481, 41),
            (482, 25),
            (483, 25),
            (484, 28),
            (485, 1),
            (486, 17),
            (500, 41),
            (501, 79),
            (502, 38),
            (503, 41),
            (504, 102),
            (505, 127),
            (513, 127),
            (600, 17),
            (603, 21),
            (604, 1),
        ] {
            assert_eq!(from_sip(status), Some(cause), "{status}");
        }
        for status in [487, 488, 606, 200, 302] {
            assert_eq!(from_sip(status), None, "{status}");
        }
    }

    #[test]
    fn what_the_rfc_leaves_open_goes_by_its_class() {
        for cause in (0..=127).filter(|cause| *cause != 16) {
            assert!(to_sip(cause).is_some_and(|status| (400..700).contains(&status)), "{cause}");
            assert!(!meaning(cause).is_empty());
        }
        for status in (400..700).filter(|status| ![487, 488, 606].contains(status)) {
            assert!(from_sip(status).is_some_and(|cause| (1..128).contains(&cause)), "{status}");
        }
    }
}
