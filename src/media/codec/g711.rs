//! G.711 companding by table: A-law and µ-law to and from linear, and one law to the other.

/// The two companding laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    A,
    Mu,
}

/// Samples per second of every G.711 stream.
pub const SAMPLE_RATE: u32 = 8_000;

impl Law {
    /// Linear 16-bit value of a code word.
    #[inline]
    pub fn expand(self, code: u8) -> i16 {
        match self {
            Law::A => A_TO_LINEAR[code as usize],
            Law::Mu => MU_TO_LINEAR[code as usize],
        }
    }

    /// Code word nearest below a linear value.
    #[inline]
    pub fn compress(self, linear: i16) -> u8 {
        match self {
            // Both laws look at no more than the upper 13 (A) or 14 (µ) bits: the tables are 8 and 16 KB and stay
            // in cache.
            Law::A => LINEAR_TO_A[(linear as u16 >> 3) as usize],
            Law::Mu => LINEAR_TO_MU[(linear as u16 >> 2) as usize],
        }
    }

    /// The code word of silence.
    pub fn silence(self) -> u8 {
        match self {
            Law::A => 0xd5,
            Law::Mu => 0xff,
        }
    }

    /// Expands as many samples as both slices hold, returns how many.
    #[inline]
    pub fn expand_into(self, codes: &[u8], linear: &mut [i16]) -> usize {
        let table = match self {
            Law::A => &A_TO_LINEAR,
            Law::Mu => &MU_TO_LINEAR,
        };
        linear.iter_mut().zip(codes).for_each(|(to, from)| *to = table[*from as usize]);
        linear.len().min(codes.len())
    }

    /// Compresses as many samples as both slices hold, returns how many.
    #[inline]
    pub fn compress_into(self, linear: &[i16], codes: &mut [u8]) -> usize {
        codes.iter_mut().zip(linear).for_each(|(to, from)| *to = self.compress(*from));
        linear.len().min(codes.len())
    }

    pub fn other(self) -> Law {
        match self {
            Law::A => Law::Mu,
            Law::Mu => Law::A,
        }
    }

    /// Rewrites code words of this law as those of the other one, in place.
    pub fn turn(self, codes: &mut [u8]) {
        let table = match self {
            Law::A => &A_TO_MU,
            Law::Mu => &MU_TO_A,
        };
        codes.iter_mut().for_each(|code| *code = table[*code as usize]);
    }

    /// Rewrites code words of this law as those of `other` (G.711 tables 3 and 4 by way of linear).
    #[inline]
    pub fn translate_into(self, other: Law, from: &[u8], to: &mut [u8]) -> usize {
        let len = from.len().min(to.len());
        let (to, from) = (&mut to[..len], &from[..len]);
        match (self, other) {
            (Law::A, Law::A) | (Law::Mu, Law::Mu) => to.copy_from_slice(from),
            (Law::A, Law::Mu) => to.iter_mut().zip(from).for_each(|(to, from)| *to = A_TO_MU[*from as usize]),
            (Law::Mu, Law::A) => to.iter_mut().zip(from).for_each(|(to, from)| *to = MU_TO_A[*from as usize]),
        }
        len
    }
}

static A_TO_LINEAR: [i16; 256] = a_to_linear();
static MU_TO_LINEAR: [i16; 256] = mu_to_linear();
static LINEAR_TO_A: [u8; 8192] = linear_to_a();
static LINEAR_TO_MU: [u8; 16384] = linear_to_mu();
static A_TO_MU: [u8; 256] = a_to_mu();
static MU_TO_A: [u8; 256] = mu_to_a();

/// G.711 table 1a: even bits are inverted, three segment bits, four of the mantissa.
const fn a_to_linear() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = code as u8 ^ 0x55;
        let segment = (bits >> 4) & 7;
        let mantissa = ((bits & 0x0f) as i16) << 4;
        let magnitude = match segment {
            0 => mantissa + 8,
            _ => (mantissa + 0x108) << (segment - 1),
        };
        table[code] = if bits & 0x80 != 0 { magnitude } else { -magnitude };
        code += 1;
    }
    table
}

/// G.711 table 2a: all bits are inverted, bias 33 in 14 bits, which is 132 in 16.
const fn mu_to_linear() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = !(code as u8);
        let segment = (bits >> 4) & 7;
        let magnitude = (((((bits & 0x0f) as i32) << 3) + 132) << segment) - 132;
        table[code] = if bits & 0x80 != 0 { -magnitude as i16 } else { magnitude as i16 };
        code += 1;
    }
    table
}

const fn linear_to_a() -> [u8; 8192] {
    let mut table = [0; 8192];
    let mut index = 0;
    while index < 8192 {
        let linear = ((index << 3) as u16) as i16;
        table[index] = compress_a(linear);
        index += 1;
    }
    table
}

const fn compress_a(linear: i16) -> u8 {
    let (sign, magnitude) = if linear >= 0 { (0x80u8, linear as i32) } else { (0, -(linear as i32) - 1) };
    let value = (magnitude >> 4) as u32; // 11 bits of magnitude
    let code = if value < 32 {
        value as u8 // segments 0 and 1 are linear
    } else {
        let segment = 32 - value.leading_zeros() - 4;
        ((segment << 4) | ((value >> (segment - 1)) & 0x0f)) as u8
    };
    (code | sign) ^ 0x55
}

const fn linear_to_mu() -> [u8; 16384] {
    let mut table = [0; 16384];
    let mut index = 0;
    while index < 16384 {
        let linear = ((index << 2) as u16) as i16;
        table[index] = compress_mu(linear);
        index += 1;
    }
    table
}

const fn compress_mu(linear: i16) -> u8 {
    let (sign, magnitude) = if linear >= 0 { (0, linear as i32) } else { (0x80u8, -(linear as i32)) };
    // 14-bit magnitude, clipped at 8158, biased by 33.
    let clipped = if magnitude >> 2 > 8158 { 8158 } else { magnitude >> 2 };
    let value = (clipped + 33) as u32;
    let segment = 32 - value.leading_zeros() - 6;
    let mantissa = (value >> (segment + 1)) & 0x0f;
    !(((segment << 4) | mantissa) as u8 | sign)
}

const fn a_to_mu() -> [u8; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = compress_mu(A_TO_LINEAR_CONST[code]);
        code += 1;
    }
    table
}

const fn mu_to_a() -> [u8; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = compress_a(MU_TO_LINEAR_CONST[code]);
        code += 1;
    }
    table
}

const A_TO_LINEAR_CONST: [i16; 256] = a_to_linear();
const MU_TO_LINEAR_CONST: [i16; 256] = mu_to_linear();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_code_words_have_their_values() {
        // ITU-T G.711 tables 1a and 2a, scaled to 16 bits.
        let a = [(0xd5, 8), (0x55, -8), (0xaa, 32256), (0x2a, -32256), (0x80, 5504), (0xc5, 264)];
        for (code, linear) in a {
            assert_eq!(Law::A.expand(code), linear, "A-law {code:#x}");
        }
        let mu = [(0xff, 0), (0x7f, 0), (0x80, 32124), (0x00, -32124), (0xf0, 120), (0x8f, 16764)];
        for (code, linear) in mu {
            assert_eq!(Law::Mu.expand(code), linear, "µ-law {code:#x}");
        }
    }

    #[test]
    fn every_code_word_survives_the_way_through_linear() {
        for code in 0..=255u8 {
            assert_eq!(Law::A.compress(Law::A.expand(code)), code);
            let back = Law::Mu.compress(Law::Mu.expand(code));
            // µ-law has two zeros.
            assert_eq!(back, if code == 0x7f { 0xff } else { code });
        }
    }

    #[test]
    fn compression_picks_a_neighbour_and_never_turns_the_sign() {
        for law in [Law::A, Law::Mu] {
            for linear in i16::MIN..=i16::MAX {
                let got = i32::from(law.expand(law.compress(linear)));
                let wanted = i32::from(linear);
                // A step is at most 1/16 of the magnitude, plus the finest step and the clipping at the top.
                let tolerance = (wanted.abs() / 16).max(16) + 8;
                assert!((got - wanted).abs() <= tolerance, "{law:?} {linear} came back as {got}");
            }
        }
    }

    #[test]
    fn one_law_becomes_the_other_and_stays_close() {
        for code in 0..=255u8 {
            let mut mu = [0];
            Law::A.translate_into(Law::Mu, &[code], &mut mu);
            let (before, after) = (i32::from(Law::A.expand(code)), i32::from(Law::Mu.expand(mu[0])));
            assert!((before - after).abs() <= before.abs() / 16 + 16, "{code:#x}: {before} became {after}");
        }
        for law in [Law::A, Law::Mu] {
            let mut codes: Vec<u8> = (0..=255).collect();
            let mut expected = [0; 256];
            law.translate_into(law.other(), &codes, &mut expected);
            law.turn(&mut codes);
            assert_eq!(codes, expected);
        }
        let mut same = [0; 3];
        assert_eq!(Law::A.translate_into(Law::A, &[1, 2, 3, 4], &mut same), 3);
        assert_eq!(same, [1, 2, 3]);
    }

    #[test]
    fn silence_is_silent() {
        assert!(Law::A.expand(Law::A.silence()).abs() <= 8);
        assert_eq!(Law::Mu.expand(Law::Mu.silence()), 0);
    }
}
