//! How much has each profile? Ids, counts and sums by profile id, in pages that exist only where profiles do.
//!
//! Ids are dense, so a page looked up by id is faster than a hash map, and ids come out in order without sorting.

use bigdecimal::{BigDecimal, num_bigint::BigInt};
use roaring::RoaringBitmap;

/// A set of profiles under construction: one bit each. Adding an id twice is adding it once.
#[derive(Default)]
pub(super) struct Ids {
    pages: Vec<Option<Box<[u8; Ids::BYTES]>>>,
}

impl Ids {
    /// Bytes of a page: as many ids as one container of a roaring bitmap.
    const BYTES: usize = 65_536 / 8;

    #[inline]
    pub(super) fn insert(&mut self, id: u32) {
        let (page, at) = ((id >> 16) as usize, id as usize & 0xffff);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([0; Ids::BYTES]));
        page[at / 8] |= 1 << (at % 8);
    }

    pub(super) fn bytes(&self) -> usize {
        self.pages.iter().flatten().count() * Self::BYTES
    }

    /// Forgets ids from `end` on, which is a multiple of 65,536.
    pub(super) fn cut(&mut self, end: u32) {
        self.pages.truncate((end >> 16) as usize);
    }

    pub(super) fn to_bitmap(&self) -> RoaringBitmap {
        let mut bitmap = RoaringBitmap::new();
        for (page, bytes) in self.pages.iter().enumerate() {
            if let Some(bytes) = bytes {
                // Pages do not overlap, so this union only moves containers.
                bitmap |= RoaringBitmap::from_lsb0_bytes((page as u32) << 16, &bytes[..]);
            }
        }
        bitmap
    }
}

/// A number for each profile, zero until something is added.
pub(super) struct Numbers<T> {
    pages: Vec<Option<Box<[T]>>>,
}

const PAGE: usize = 4_096;

impl<T: Copy + Default + PartialEq> Numbers<T> {
    pub(super) fn new() -> Self {
        Numbers { pages: Vec::new() }
    }

    #[inline]
    pub(super) fn at(&mut self, id: u32) -> &mut T {
        let (page, at) = (id as usize / PAGE, id as usize % PAGE);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        // Made where it stays: an array would be made on the stack and copied.
        &mut self.pages[page].get_or_insert_with(|| vec![T::default(); PAGE].into())[at]
    }

    pub(super) fn bytes(&self) -> usize {
        self.pages.iter().flatten().count() * PAGE * size_of::<T>()
    }

    /// Forgets ids from `end` on, which is a multiple of 65,536.
    pub(super) fn cut(&mut self, end: u32) {
        self.pages.truncate(end as usize / PAGE);
    }

    pub(super) fn get(&self, id: u32) -> T {
        let page = self.pages.get(id as usize / PAGE).and_then(Option::as_ref);
        page.map_or(T::default(), |page| page[id as usize % PAGE])
    }

    /// Each profile whose number is not the default, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        let pages = self.pages.iter().enumerate().filter_map(|(page, numbers)| Some((page, numbers.as_ref()?)));
        pages.flat_map(|(page, numbers)| {
            let numbers = numbers.iter().enumerate().filter(|(_, number)| **number != T::default());
            numbers.map(move |(at, number)| ((page * PAGE + at) as u32, *number))
        })
    }

    /// Changes each number that is not the default.
    pub(super) fn each(&mut self, change: impl FnMut(&mut T)) {
        let numbers = self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut());
        numbers.filter(|number| **number != T::default()).for_each(change);
    }

    /// The profiles whose number passes; those with zero (no page, no event) are never asked.
    pub(super) fn select(&self, passes: impl Fn(T) -> bool) -> RoaringBitmap {
        let mut ids = Ids::default();
        for (page, numbers) in self.pages.iter().enumerate() {
            let Some(numbers) = numbers else { continue };
            for (at, number) in numbers.iter().enumerate() {
                if *number != T::default() && passes(*number) {
                    ids.insert((page * PAGE + at) as u32);
                }
            }
        }
        ids.to_bitmap()
    }
}

impl Numbers<u32> {
    #[inline]
    pub(super) fn increment(&mut self, id: u32) {
        let count = self.at(id);
        *count = count.saturating_add(1);
    }
}

impl<T: Copy + Default + PartialEq> Default for Numbers<T> {
    fn default() -> Self {
        Numbers::new()
    }
}

/// Sums are kept exactly, in millionths.
pub(super) const SUM_DECIMALS: u32 = 6;

/// A binary `numeric` in millionths; `None` if it has more decimals, is too large, or is no number.
///
/// Layout: `numeric_send` of PostgreSQL's `numeric.c`: digit count, weight, sign, display scale, digits of base 10,000.
#[inline]
pub(super) fn millionths(numeric: &[u8]) -> Option<i64> {
    let word = |at: usize| Some(i16::from_be_bytes(numeric.get(at..at + 2)?.try_into().ok()?));
    let (digits, weight, sign) = (word(0)?, i32::from(word(2)?), word(4)? as u16);
    let negative = match sign {
        0 => false,
        0x4000 => true,
        _ => return None,
    };
    let mut total: i64 = 0;
    for index in 0..i32::from(digits) {
        let digit = i64::from(word(8 + 2 * index as usize)?);
        let exponent = 4 * (weight - index) + SUM_DECIMALS as i32;
        let part = match exponent {
            0..=18 => digit.checked_mul(10_i64.pow(exponent as u32))?,
            -3..=-1 => {
                let divisor = 10_i64.pow(exponent.unsigned_abs());
                if digit % divisor != 0 {
                    return None;
                }
                digit / divisor
            }
            _ if digit == 0 => 0,
            _ => return None,
        };
        total = total.checked_add(part)?;
    }
    Some(if negative { -total } else { total })
}

/// A number of an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Amount {
    /// Nearly every one.
    Millionths(i64),
    /// Too large, or with more decimals.
    Other(BigDecimal),
}

impl Amount {
    /// Reads a binary `numeric`; `None` for what is no number.
    #[inline]
    pub(super) fn read(numeric: &[u8]) -> Option<Amount> {
        match millionths(numeric) {
            Some(millionths) => Some(Amount::Millionths(millionths)),
            None => decimal(numeric).map(Amount::Other),
        }
    }
}

/// A binary `numeric` of any size.
fn decimal(numeric: &[u8]) -> Option<BigDecimal> {
    let word = |at: usize| Some(i16::from_be_bytes(numeric.get(at..at + 2)?.try_into().ok()?));
    let (digits, weight, sign) = (word(0)?, i64::from(word(2)?), word(4)? as u16);
    let mut number = BigInt::from(0);
    for index in 0..usize::try_from(digits).ok()? {
        number = number * 10_000 + word(8 + 2 * index)?;
    }
    let scale = 4 * (i64::from(digits) - 1 - weight);
    match sign {
        0 => Some(BigDecimal::new(number, scale)),
        0x4000 => Some(BigDecimal::new(-number, scale)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_out_as_they_went_in() {
        let mut ids = Ids::default();
        for id in [1, 7, 7, 65_535, 65_536, 1_000_000, u32::MAX] {
            ids.insert(id);
        }
        assert_eq!(ids.to_bitmap().iter().collect::<Vec<_>>(), [1, 7, 65_535, 65_536, 1_000_000, u32::MAX]);
    }

    #[test]
    fn numbers_start_at_zero_and_zero_is_not_selected() {
        let mut numbers = Numbers::<i64>::new();
        *numbers.at(5) += 3;
        *numbers.at(5) -= 3;
        *numbers.at(9_000) += 2;
        assert_eq!(numbers.select(|_| true).iter().collect::<Vec<_>>(), [9_000]);
    }

    fn numeric(sign: u16, weight: i16, digits: &[i16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [digits.len() as i16, weight, sign as i16, 0] {
            bytes.extend(word.to_be_bytes());
        }
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        bytes
    }

    #[test]
    fn a_numeric_is_read_exactly_or_not_at_all() {
        assert_eq!(millionths(&numeric(0, 0, &[])), Some(0));
        assert_eq!(millionths(&numeric(0, 0, &[12, 3400])), Some(12_340_000), "12.34");
        assert_eq!(millionths(&numeric(0x4000, 1, &[1, 2345])), Some(-12_345_000_000), "-12345");
        assert_eq!(millionths(&numeric(0, -1, &[0, 100])), Some(1), "0.000001 with a leading zero digit");
        assert_eq!(millionths(&numeric(0, -2, &[100])), Some(1), "0.000001");
        assert_eq!(millionths(&numeric(0, -2, &[10])), None, "0.0000001 has too many decimals");
        assert_eq!(millionths(&numeric(0, 3, &[1])), Some(1_000_000_000_000_000_000), "10^12");
        assert_eq!(millionths(&numeric(0, 3, &[10])), None, "10^13 is too large");
        assert_eq!(millionths(&numeric(0, 100, &[1])), None);
        assert_eq!(millionths(&numeric(0xc000, 0, &[])), None, "NaN");
        let read = |numeric: Vec<u8>| decimal(&numeric).map(|number| number.to_plain_string());
        assert_eq!(read(numeric(0x4000, -2, &[10])).unwrap(), "-0.00000010");
        assert_eq!(read(numeric(0, 3, &[10])).unwrap(), "10000000000000");
        assert_eq!(read(numeric(0, 1, &[1, 2345, 6700])).unwrap(), "12345.6700");
        assert_eq!(read(numeric(0xc000, 0, &[])), None, "NaN");
    }
}
