//! Downloads of any shape against a DfuSe device that is nothing but arithmetic: every byte lands where it belongs, no page
//! is erased twice, blocks 0 and 1 carry no data; also when jobs are cut, cancelled and resumed.

#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "tests")]

use core::time::Duration;
use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use spark_dfu::{
    SetupPacket,
    descriptor::FunctionalDescriptor,
    host::{
        Clock, ControlTransfer, Download, Element, EraseMode, Journal, Link, Plan, TransferFailure,
        WriteOptions, drive, drive_while,
    },
    layout::MemoryLayout,
    quirk::Quirks,
};

const LINK: Link = Link::new(0, &FunctionalDescriptor::PHOTON);
const POINTER_AFTER_ERASE: u64 = 0x123;

/// Bytes that were touched; all others still have their first value.
struct Model {
    bytes: HashMap<u32, u8>,
    first: u8,
    base: u32,
    page: u32,
    transfer_size: u32,
    pointer: u64,
    state: u8,
    erase_sets_pointer: bool,
    erased: Vec<u32>,
    mass_erases: u32,
    /// Transfers until the cable breaks.
    left: usize,
    now: Duration,
}

impl Model {
    fn new(base: u32, page: u32, transfer_size: u16, erase_sets_pointer: bool) -> Self {
        Self {
            bytes: HashMap::new(),
            first: 0x5A,
            base,
            page,
            transfer_size: transfer_size.into(),
            pointer: 0x77,
            state: 2,
            erase_sets_pointer,
            erased: Vec::new(),
            mass_erases: 0,
            left: usize::MAX,
            now: Duration::ZERO,
        }
    }

    fn get(&self, address: u32) -> u8 {
        self.bytes.get(&address).copied().unwrap_or(self.first)
    }

    fn spend(&mut self) -> Result<(), TransferFailure> {
        self.left = self.left.checked_sub(1).ok_or(TransferFailure::Disconnected)?;
        Ok(())
    }

    fn address_of(&self, block: u16) -> u64 {
        assert!(block >= 2, "blocks 0 and 1 carry no data");
        self.pointer + u64::from(block - 2) * u64::from(self.transfer_size)
    }

    fn command(&mut self, data: &[u8]) {
        match *data {
            [0x41] => {
                self.mass_erases += 1;
                self.bytes.clear();
                self.first = 0xFF;
            }
            [0x21, a, b, c, d] => self.pointer = u32::from_le_bytes([a, b, c, d]).into(),
            [0x41, a, b, c, d] => {
                let address = u32::from_le_bytes([a, b, c, d]);
                assert_eq!((address - self.base) % self.page, 0, "the start of the page is erased");
                self.erased.push(address);
                for at in 0..self.page {
                    self.bytes.insert(address + at, 0xFF);
                }
                self.pointer = if self.erase_sets_pointer { address.into() } else { POINTER_AFTER_ERASE };
            }
            _ => panic!("{data:?}"),
        }
    }
}

impl ControlTransfer for Model {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.spend()?;
        match (setup.request, setup.value) {
            (6, _) => self.state = 2,
            (1, 0) => {
                self.command(data);
                self.state = 5;
            }
            (1, block) => {
                assert!(self.state == 2 || self.state == 5, "DNLOAD in state {}", self.state);
                assert!(u32::from(setup.length) <= self.transfer_size);
                for (at, byte) in (self.address_of(block)..).zip(data) {
                    let at = u32::try_from(at).unwrap();
                    let cell = self.get(at) & byte;
                    self.bytes.insert(at, cell);
                }
                self.state = 5;
            }
            _ => panic!("{setup:?}"),
        }
        Ok(())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.spend()?;
        match setup.request {
            3 => buffer.copy_from_slice(&[0, 0, 0, 0, self.state, 0]),
            2 => {
                assert!(self.state == 2 || self.state == 9, "UPLOAD in state {}", self.state);
                self.state = 9;
                for (at, cell) in (self.address_of(setup.value)..).zip(buffer.iter_mut()) {
                    *cell = self.get(u32::try_from(at).unwrap());
                }
            }
            _ => panic!("{setup:?}"),
        }
        Ok(buffer.len())
    }
}

impl Clock for Model {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = until;
    }
}

/// Image bytes of a kind: blank, equal to what is there, or depending on their position.
fn image(kind: u8, address: u32, len: u32) -> Vec<u8> {
    let byte = |at: u32| match kind {
        0 => 0xFF,
        1 => 0x5A,
        _ => (at.wrapping_mul(31).wrapping_add(address) >> (at % 3)).to_le_bytes()[0],
    };
    (0..len).map(byte).collect()
}

/// How a case writes.
#[derive(Debug, Clone, Copy)]
struct How {
    keep: bool,
    skip_equal: bool,
    verify: bool,
    address_every_block: bool,
    erase_sets_pointer: bool,
    knows_blank: bool,
}

impl From<[bool; 6]> for How {
    fn from(
        [keep, skip_equal, verify, address_every_block, erase_sets_pointer, knows_blank]: [bool; 6],
    ) -> Self {
        Self { keep, skip_equal, verify, address_every_block, erase_sets_pointer, knows_blank }
    }
}

impl How {
    fn options(self, erase: EraseMode) -> WriteOptions {
        let Self { keep, skip_equal, verify, .. } = self;
        WriteOptions { erase, keep_partial_pages: keep, skip_equal, verify, ..WriteOptions::DEFAULT }
    }

    fn link(self, transfer_size: u16, max_block: u16) -> Link {
        let quirks = Quirks {
            address_every_block: self.address_every_block,
            erase_sets_pointer: self.erase_sets_pointer,
            erased_byte: self.knows_blank.then_some(0xFF),
            ..Quirks::NONE
        };
        Link { transfer_size, max_block, ..LINK.with_quirks(quirks) }
    }
}

fn one_download(
    (base, page, pages): (u32, u32, u32),
    spans: &[(u32, u32)],
    (transfer_size, max_block): (u16, u16),
    how: How,
    kind: u8,
) {
    let text = format!("@x/0x{base:X}/{pages}*{page} g");
    let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
    let images: Vec<_> = spans.iter().map(|(address, len)| (*address, image(kind, *address, *len))).collect();
    let elements: Vec<_> = images.iter().map(|(address, data)| Element { address: *address, data }).collect();
    let plan = Plan::write_elements(&layout, &elements, how.options(EraseMode::Pages)).unwrap();
    let link = how.link(transfer_size, max_block);
    let mut model = Model::new(base, page, transfer_size, how.erase_sets_pointer);
    let room = vec![0; plan.buffer_len(link.block_size())];
    let mut download = Download::new(link, &plan, &elements[..], room).unwrap();
    drive(&mut download, &mut model, &mut vec![0; 65535], |_| ()).unwrap();
    assert_eq!((download.written(), download.total()), (plan.total(), plan.total()));
    assert_eq!(usize::try_from(download.journal(0).units()).unwrap(), plan.units().count());
    let mut covered = BTreeSet::new();
    for element in &elements {
        for (address, byte) in (element.address..=u32::MAX).zip(element.data) {
            assert_eq!(model.get(address), *byte, "{address:#x}");
            covered.insert(address);
        }
    }
    let mut others = model.bytes.iter().filter(|(address, _)| !covered.contains(address));
    assert!(!how.keep || others.all(|(_, byte)| *byte == model.first), "what is not the image is kept");
    let once: BTreeSet<_> = model.erased.iter().collect();
    assert_eq!(once.len(), model.erased.len(), "no page is erased twice");
}

#[test]
fn the_ends_of_the_address_space_and_of_the_block_numbers() {
    for transfer_size in [1, 2, 7, 65535] {
        for flags in 0..64_u8 {
            let how = How::from(core::array::from_fn(|bit| flags >> bit & 1 != 0));
            let sizes = (transfer_size, u16::MAX);
            one_download((0xFFFF_F000, 1024, 4), &[(0xFFFF_FFF0, 16), (0xFFFF_F3FF, 2)], sizes, how, 2);
            one_download((0, 300, 4), &[(0, 1), (299, 2), (700, 500)], sizes, how, 2);
        }
    }
    // More than 65534 blocks of one byte in one page.
    let plain = How::from([false, false, true, false, false, false]);
    one_download((0, 140_000, 1), &[(0, 140_000)], (1, u16::MAX), plain, 2);
    let kept = How::from([true, false, true, false, true, true]);
    one_download((0, 140_000, 1), &[(5, 139_000)], (2, 1), kept, 2);
}

fn pieces(cuts: &BTreeSet<u32>, size: u32, base: u32) -> Vec<(u32, u32)> {
    let cuts: BTreeSet<_> = cuts.iter().map(|cut| cut % (size + 1)).collect();
    let cuts: Vec<_> = cuts.into_iter().collect();
    cuts.windows(2).step_by(2).map(|pair| (base.wrapping_add(pair[0]), pair[1] - pair[0])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_image_with_any_options(
        page in 1_u32..700,
        pages in 1_u32..12,
        at_the_end: bool,
        cuts in proptest::collection::btree_set(0_u32..6000, 2..9),
        turn in 0_usize..9,
        transfer_size in prop_oneof![Just(1_u16), Just(65535), 2_u16..600],
        max_block in prop_oneof![Just(u16::MAX), 1_u16..600],
        flags: [bool; 6],
        kind in 0_u8..3,
    ) {
        let size = page * pages;
        let base = if at_the_end { 0_u32.wrapping_sub(size) } else { 0 };
        let mut spans = pieces(&cuts, size, base);
        prop_assume!(!spans.is_empty());
        let count = spans.len();
        spans.rotate_left(turn % count);
        one_download((base, page, pages), &spans, (transfer_size, max_block), flags.into(), kind);
    }

    #[test]
    fn any_job_that_is_cut_or_cancelled_goes_on_from_its_journal(
        (page, pages) in (1_u32..500, 1_u32..10),
        erasable: bool,
        mass: bool,
        cuts in proptest::collection::btree_set(0_u32..6000, 2..9),
        transfer_size in prop_oneof![Just(1_u16), Just(65535), 2_u16..600],
        flags: [bool; 6],
        kind in 0_u8..3,
        breaks in proptest::collection::vec((0_usize..400, any::<bool>()), 1..4),
    ) {
        // Keeping parts of pages has its own test: such a job may refuse to go on.
        let how = How { keep: false, ..How::from(flags) };
        let spans = pieces(&cuts, page * pages, 0);
        prop_assume!(!spans.is_empty());
        let images: Vec<_> = spans.iter().map(|(address, len)| (*address, image(kind, *address, *len))).collect();
        let elements: Vec<_> = images.iter().map(|(address, data)| Element { address: *address, data }).collect();
        // Memory that only a mass erase can erase.
        let letter = if mass && !erasable { "e" } else { "g" };
        let text = format!("@x/0x0/{pages}*{page} {letter}");
        let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
        let erase = if mass { EraseMode::Mass } else { EraseMode::Pages };
        let plan = Plan::write_elements(&layout, &elements, how.options(erase)).unwrap();
        let link = how.link(transfer_size, u16::MAX);
        let mut model = Model::new(0, page, transfer_size, how.erase_sets_pointer);
        let new = || Download::new(link, &plan, &elements[..], vec![0; plan.buffer_len(transfer_size)]).unwrap();
        let mut journal = new().journal(0);
        for (at, cancel) in breaks {
            let mut download = new().resume(&journal).unwrap();
            let mut asked = 0;
            model.left = if cancel { usize::MAX } else { at };
            let _ = drive_while(&mut download, &mut model, &mut vec![0; 65535], |_| (), || {
                asked += 1;
                !cancel || asked <= at
            });
            journal = Journal::parse(&download.journal(0).to_bytes()).unwrap();
            prop_assert!(model.mass_erases <= 1 || !journal.is_mass_erased(), "everything is erased once");
            if !journal.is_mass_erased() {
                model.mass_erases = 0;
            }
            // What the next connection finds.
            (model.left, model.state, model.pointer) = (usize::MAX, 2, 0x99);
        }
        let mut download = new().resume(&journal).unwrap();
        drive(&mut download, &mut model, &mut vec![0; 65535], |_| ()).unwrap();
        prop_assert_eq!(download.written(), plan.total());
        for element in &elements {
            for (address, byte) in (element.address..).zip(element.data) {
                prop_assert_eq!(model.get(address), *byte, "{:#x}", address);
            }
        }
    }
}
