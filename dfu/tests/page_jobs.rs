//! Page-wise downloads into our device: what is erased, kept, skipped, read back, resumed and cancelled.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use core::time::Duration;

use common::{Bus, Fault, OneStep, PhotonMemory, pattern};
use proptest::prelude::*;
use spark_dfu::{
    State, Status,
    descriptor::{Description, FunctionalDescriptor},
    device::{Device, Profile},
    host::{
        Connect, Download, Element, EraseMode, HostError, Journal, JournalError, Link, Machine, Plan,
        PlanError, Progress, Span, Special, Step, WriteOptions, drive, drive_while,
    },
    layout::MemoryLayout,
    quirk::Quirks,
};

const LINK: Link = Link::new(0, &FunctionalDescriptor::PHOTON);
const BASE: usize = 0x0800_0000;

fn bus(profile: Profile) -> Bus<'static> {
    Bus::new(Device::new(Description::photon("1"), profile, vec![0; 4096]).unwrap())
}

fn flash() -> MemoryLayout<'static> {
    MemoryLayout::parse(Description::PHOTON_ALTERNATES[0].as_bytes()).unwrap()
}

fn element(address: usize, data: &[u8]) -> Element<'_> {
    Element { address: u32::try_from(address).unwrap(), data }
}

fn run(bus: &mut Bus<'_>, machine: &mut dyn Machine) -> Result<Vec<Progress>, HostError> {
    let mut progress = Vec::new();
    drive(machine, bus, &mut [0; 4096], |step| progress.push(step))?;
    Ok(progress)
}

fn write(
    bus: &mut Bus<'_>,
    link: Link,
    elements: &[Element<'_>],
    options: WriteOptions,
) -> Result<Vec<Progress>, HostError> {
    let layout = flash();
    let plan = Plan::write_elements(&layout, elements, options).unwrap();
    run(bus, &mut Connect::new(link))?;
    let room = vec![0; plan.buffer_len(link.transfer_size)];
    run(bus, &mut Download::new(link, &plan, elements, room).unwrap())
}

/// What the memory holds after a write that keeps nothing but what it must.
fn expected(elements: &[Element<'_>], keep: bool) -> Vec<u8> {
    let mut flash = PhotonMemory::new().flash;
    if !keep {
        for element in elements {
            let start = usize::try_from(element.address).unwrap() - BASE;
            let (first, last) = (start >> 17, (start + element.data.len() - 1) >> 17);
            flash[first << 17..(last + 1) << 17].fill(0xFF);
        }
    }
    for element in elements {
        let start = usize::try_from(element.address).unwrap() - BASE;
        flash[start..][..element.data.len()].copy_from_slice(element.data);
    }
    flash
}

#[test]
fn elements_out_of_order_share_their_pages_and_each_is_erased_once() {
    let (a, b, c) = (pattern(3, 1, 5000), pattern(5, 2, 7000), pattern(7, 3, 300));
    let elements = [element(0x080A_3000, &b), element(0x0808_0010, &c), element(0x080A_0001, &a)];
    for profile in [Profile::STRICT, Profile::PHOTON_0_5_3, Profile::PHOTON_2_3_1] {
        let mut bus = bus(profile);
        let options = WriteOptions { verify: true, ..WriteOptions::DEFAULT };
        write(&mut bus, LINK, &elements, options).unwrap();
        assert_eq!(bus.memory.erased, [0x0808_0000, 0x080A_0000]);
        assert!(bus.memory.flash == expected(&elements, false));
        assert_eq!(bus.device.state(), State::Idle);
    }
}

#[test]
fn partial_pages_are_kept_on_request() {
    let (a, b) = (pattern(3, 1, 140_000), pattern(5, 2, 77));
    let elements = [element(0x0803_FFF0, &a), element(0x080A_1235, &b)];
    let keep = WriteOptions { keep_partial_pages: true, verify: true, ..WriteOptions::DEFAULT };
    let mut bus = bus(Profile::PHOTON_2_3_1);
    let progress = write(&mut bus, Link::PHOTON, &elements, keep).unwrap();
    assert!(bus.memory.flash == expected(&elements, true));
    assert_eq!(bus.memory.erased, [0x0802_0000, 0x0804_0000, 0x0806_0000, 0x080A_0000]);
    assert_eq!(progress.last(), Some(&Progress::Verified { done: 140_077, total: 140_077 }));
}

#[test]
fn kept_pages_need_a_buffer_of_one_page() {
    let layout = flash();
    let keep = WriteOptions { keep_partial_pages: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, 0x080A_0000, 100, keep).unwrap();
    let image = element(0x080A_0000, &[0; 100]);
    let error = Download::new(LINK, &plan, image, [0; 4096]).unwrap_err();
    assert_eq!(error, PlanError::BufferTooSmall { needed: 131_072, available: 4096 });
}

#[test]
fn an_unchanged_image_is_neither_erased_nor_written() {
    let image = pattern(31, 7, 250_956);
    let elements = [element(0x0802_0000, &image)];
    let options = WriteOptions { skip_equal: true, verify: true, ..WriteOptions::DEFAULT };
    let mut bus = bus(Profile::PHOTON_2_3_1);
    let progress = write(&mut bus, Link::PHOTON, &elements, options).unwrap();
    assert_eq!(progress.last(), Some(&Progress::Verified { done: 250_956, total: 250_956 }));
    assert_eq!(bus.memory.erased.len(), 2);
    bus.memory.erased.clear();
    bus.log.clear();
    let progress = write(&mut bus, Link::PHOTON, &elements, options).unwrap();
    assert!(bus.memory.erased.is_empty());
    let half = Progress::Unchanged { done: 131_072, total: 250_956 };
    assert_eq!(progress, [half, Progress::Unchanged { done: 250_956, total: 250_956 }]);
    // DNLOAD carries nothing but the address.
    assert!(
        bus.log.iter().filter(|setup| setup.request == 1).all(|setup| setup.value == 0 && setup.length == 5)
    );
    // One changed byte costs one page; its comparison ends at the block that differs.
    let mut changed = image.clone();
    changed[5000] ^= 0x40;
    let elements = [element(0x0802_0000, &changed)];
    write(&mut bus, Link::PHOTON, &elements, options).unwrap();
    assert_eq!(bus.memory.erased, [0x0802_0000]);
    assert!(bus.memory.flash[0x2_0000..][..250_956] == changed);
}

#[test]
fn blank_blocks_are_skipped_only_where_erased_memory_is_known() {
    let mut image = pattern(31, 7, 40_000);
    image[4096..32_768].fill(0xFF);
    let elements = [element(0x080A_0000, &image)];
    let blocks = |link| {
        let mut bus = bus(Profile::PHOTON_2_3_1);
        write(&mut bus, link, &elements, WriteOptions::DEFAULT).unwrap();
        assert!(bus.memory.flash == expected(&elements, false));
        bus.log
            .iter()
            .filter(|setup| setup.request == 1 && setup.value > 1)
            .map(|s| s.value)
            .collect::<Vec<_>>()
    };
    assert_eq!(blocks(LINK), (2..12).collect::<Vec<_>>());
    assert_eq!(blocks(Link::PHOTON), [2, 10, 11], "numbers go on behind the gap");
    // Nothing was erased, so nothing is known to be blank.
    let mut bus = bus(Profile::PHOTON_2_3_1);
    bus.memory.flash[0xA_0000..][..40_000].copy_from_slice(&image);
    let options = WriteOptions { erase: EraseMode::None, ..WriteOptions::DEFAULT };
    write(&mut bus, Link::PHOTON, &elements, options).unwrap();
    assert_eq!(bus.log.iter().filter(|setup| setup.request == 1 && setup.value > 1).count(), 10);
}

/// Half of the transfers of dfu-util 0.11, which needs 6 a block (its recorded session `sys_two_sectors`: 220 in all).
#[test]
fn transfers_are_few_and_dfu_utils_way_can_be_chosen() {
    let image = pattern(31, 7, 140_000);
    let elements = [element(0x0802_0000, &image)];
    let transfers = |quirks| {
        let mut bus = bus(Profile::PHOTON_0_5_3);
        write(&mut bus, LINK.with_quirks(quirks), &elements, WriteOptions::DEFAULT).unwrap();
        assert!(bus.memory.flash == expected(&elements, false));
        bus.transfers
    };
    let (connect, abort, erases, blocks) = (1, 2, 2 * 3, 35 * 3);
    assert_eq!(transfers(Quirks::PHOTON), connect + erases + blocks + abort);
    assert_eq!(transfers(Quirks::NONE), connect + erases + 2 * 3 + blocks + abort);
    let every = Quirks { address_every_block: true, ..Quirks::NONE };
    assert_eq!(transfers(every), connect + erases + 2 * blocks + abort);
}

/// Block numbers count in units of wTransferSize whatever is sent: dfu-util 0.11 with `-t 1000` reads the first 1000
/// bytes of every 4096.
#[test]
fn smaller_blocks_go_to_the_right_addresses() {
    let image = pattern(31, 7, 10_000);
    let elements = [element(0x080A_0000, &image)];
    let options = WriteOptions { verify: true, ..WriteOptions::DEFAULT };
    for max_block in [1000, 2048, 4095, 4096, 5000] {
        let mut bus = bus(Profile::PHOTON_2_3_1);
        write(&mut bus, Link { max_block, ..Link::PHOTON }, &elements, options).unwrap();
        assert!(bus.memory.flash == expected(&elements, false), "{max_block}");
        assert!(bus.log.iter().all(|setup| setup.length <= max_block.max(6)));
    }
}

#[test]
fn write_padding_fills_the_last_block_only() {
    let image = pattern(31, 7, 4099);
    let mut bus = bus(Profile::STRICT);
    let link = LINK.with_quirks(Quirks { write_multiple: 4, ..Quirks::NONE });
    write(&mut bus, link, &[element(0x080A_0000, &image)], WriteOptions::DEFAULT).unwrap();
    let lengths: Vec<_> =
        bus.log.iter().filter(|setup| setup.request == 1 && setup.value > 1).map(|s| s.length).collect();
    assert_eq!(lengths, [4096, 4]);
    assert!(bus.memory.flash == expected(&[element(0x080A_0000, &image)], false));
}

#[test]
fn read_back_finds_what_the_memory_did_not_take() {
    for (skip_equal, keep_partial_pages) in [(false, false), (true, false), (false, true), (true, true)] {
        read_back_finds_a_flipped_bit(WriteOptions {
            verify: true,
            skip_equal,
            keep_partial_pages,
            ..WriteOptions::DEFAULT
        });
    }
}

fn read_back_finds_a_flipped_bit(options: WriteOptions) {
    let image = pattern(31, 7, 9000);
    let elements = [element(0x080A_0000, &image)];
    let layout = flash();
    let plan = Plan::write_elements(&layout, &elements, options).unwrap();
    let mut bus = bus(Profile::STRICT);
    run(&mut bus, &mut Connect::new(LINK)).unwrap();
    let room = vec![0; plan.buffer_len(4096)];
    let mut download = Download::new(LINK, &plan, &elements[..], room).unwrap();
    let flip = |bus: &mut Bus<'_>| bus.memory.flash[0xA_0000 + 8500] ^= 1;
    let mut flipped = false;
    let error = loop {
        let mut one = OneStep(&mut download, false);
        let mut last = None;
        if let Err(error) = drive(&mut one, &mut bus, &mut [0; 4096], |step| last = Some(step)) {
            break error;
        }
        if !flipped && matches!(last, Some(Progress::Written { done: 9000, .. })) {
            flip(&mut bus);
            flipped = true;
        }
    };
    let (address, expected) = (0x080A_0000 + 8500, image[8500]);
    assert_eq!(error, HostError::Mismatch { address, expected, found: expected ^ 1 });
}

#[test]
fn an_image_that_lacks_planned_bytes_ends_the_job_with_their_address() {
    let layout = flash();
    let plan = Plan::write(&layout, 0x080A_0000, 5000, WriteOptions::DEFAULT).unwrap();
    let mut bus = bus(Profile::STRICT);
    let image = element(0x080A_0000, &[1; 4999]);
    let result = run(&mut bus, &mut Download::new(LINK, &plan, image, [0; 4096]).unwrap());
    let Err(HostError::Image { place, source }) = result else { panic!("{result:?}") };
    assert_eq!((place.step, place.address, source.address), (Step::Write, 0x080A_1000, 0x080A_1387));
}

/// Cuts the cable at every transfer of a job, goes on from the journal, and counts the erases.
#[test]
fn a_job_goes_on_from_its_journal_at_the_page_where_it_stopped() {
    let image = pattern(31, 7, 300_000);
    let elements = [element(0x0802_0000, &image)];
    let layout = flash();
    for verify in [false, true] {
        let options = WriteOptions { verify, ..WriteOptions::DEFAULT };
        let plan = Plan::write_elements(&layout, &elements, options).unwrap();
        let download = || Download::new(Link::PHOTON, &plan, &elements[..], [0; 4096]).unwrap();
        let mut clean = bus(Profile::PHOTON_2_3_1);
        run(&mut clean, &mut download()).unwrap();
        for at in (1..=clean.transfers).step_by(7) {
            let mut first = bus(Profile::PHOTON_2_3_1);
            first.faults = vec![(at, Fault::Disconnect)];
            let mut machine = download();
            assert!(matches!(run(&mut first, &mut machine), Err(HostError::Disconnected { .. })));
            let journal = Journal::parse(&machine.journal(7).to_bytes()).unwrap();
            assert_eq!(journal.image(), 7);
            let mut second = bus(Profile::PHOTON_2_3_1);
            second.memory = first.memory.clone();
            second.memory.erased.clear();
            let mut machine = download().resume(&journal).unwrap();
            run(&mut second, &mut Connect::new(Link::PHOTON)).unwrap();
            run(&mut second, &mut machine).unwrap();
            assert!(second.memory.flash == expected(&elements, false), "cut at {at}");
            let left = plan.units().count() - usize::try_from(journal.units()).unwrap();
            // With read-back a page that was complete but not yet compared is found to be right.
            let erased = second.memory.erased.len();
            assert!(erased == left || verify && erased + 1 == left, "cut at {at}: {erased} of {left}");
        }
    }
}

#[test]
fn journals_of_other_plans_are_refused() {
    let layout = flash();
    let plan = Plan::write(&layout, 0x0802_0000, 100, WriteOptions::DEFAULT).unwrap();
    let other = Plan::write(&layout, 0x0804_0000, 100, WriteOptions::DEFAULT).unwrap();
    let download = |plan| Download::new(LINK, plan, element(0x0802_0000, &[0; 100]), [0; 4096]).unwrap();
    let journal = download(&plan).journal(0);
    assert_eq!(download(&other).resume(&journal).unwrap_err(), JournalError::OtherPlan);
    assert!(download(&plan).resume(&journal).is_ok());
}

/// A cancelled job leaves the device in dfuIDLE, wherever it was.
#[test]
fn a_job_can_be_cancelled_before_every_action() {
    let image = pattern(31, 7, 9000);
    let elements = [element(0x080A_0000, &image)];
    let layout = flash();
    let options = WriteOptions { skip_equal: true, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write_elements(&layout, &elements, options).unwrap();
    for profile in [Profile::STRICT, Profile::PHOTON_0_5_3, Profile::PHOTON_2_3_1] {
        let mut done = false;
        for stop in 0.. {
            let mut bus = bus(profile);
            bus.work_time = Some(Duration::from_millis(30));
            let mut machine = Download::new(LINK, &plan, &elements[..], [0; 4096]).unwrap();
            let mut actions = 0;
            let result = drive_while(
                &mut machine,
                &mut bus,
                &mut [0; 4096],
                |_| (),
                || {
                    actions += 1;
                    actions <= stop
                },
            );
            assert_eq!(bus.device.state(), State::Idle, "stopped at {stop}");
            match result {
                Err(HostError::Cancelled { .. }) => {}
                // The job was done when it was asked to stop.
                Ok(()) => {
                    done = true;
                    break;
                }
                other => panic!("stopped at {stop}: {other:?}"),
            }
            run(&mut bus, &mut Connect::new(LINK)).unwrap();
            write(&mut bus, LINK, &elements, options).unwrap();
            assert!(bus.memory.flash == expected(&elements, false));
        }
        assert!(done);
    }
}

#[test]
fn a_device_that_resets_itself_after_the_last_block_has_done_its_job() {
    let image = pattern(31, 7, 9000);
    let layout = flash();
    let options = WriteOptions { will_reset: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, 0x080A_0000, image.len(), options).unwrap();
    let download = || Download::new(Link::PHOTON, &plan, element(0x080A_0000, &image), [0; 4096]).unwrap();
    let mut clean = bus(Profile::PHOTON_2_3_1);
    clean.work_time = Some(Duration::from_millis(30));
    let mut machine = download();
    run(&mut clean, &mut machine).unwrap();
    assert_eq!(machine.written(), 9000);
    assert!(clean.log.iter().all(|setup| setup.request != 6), "no ABORT");
    let last_block = 1 + clean.log.iter().rposition(|setup| setup.request == 1).unwrap();
    for at in 1..=clean.transfers {
        let mut bus = bus(Profile::PHOTON_2_3_1);
        bus.work_time = Some(Duration::from_millis(30));
        bus.faults = vec![(at, Fault::Disconnect)];
        let result = run(&mut bus, &mut download());
        assert_eq!(result.is_ok(), at > last_block, "gone at {at} of {}: {result:?}", clean.transfers);
    }
    let both = WriteOptions { verify: true, ..options };
    let refused = Plan::write(&layout, 0x080A_0000, 1, both).unwrap_err();
    assert_eq!(refused, PlanError::ReadsBeforeReset);
}

#[test]
fn what_a_resetting_device_reports_in_its_last_block_counts() {
    let image = pattern(31, 7, 4000);
    let layout = flash();
    let options = WriteOptions { will_reset: true, erase: EraseMode::None, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, 0x080A_0000, image.len(), options).unwrap();
    let mut bus = bus(Profile::STRICT);
    bus.work_time = Some(Duration::from_millis(30));
    let image = element(0x080A_0000, &image);
    let result = run(&mut bus, &mut Download::new(LINK, &plan, image, [0; 4096]).unwrap());
    let Err(HostError::Refused { status, .. }) = result else { panic!("{result:?}") };
    assert_eq!(status, Status::Verify, "the flash was not erased");
    let keep = WriteOptions { keep_partial_pages: true, ..options };
    assert_eq!(Plan::write(&layout, 0x080A_0000, 1, keep).unwrap_err(), PlanError::ReadsBeforeReset);
    // A blank last block has to be sent as well: it is what the device waits for.
    let mut image = pattern(31, 7, 3 * 4096);
    image[2 * 4096..].fill(0xFF);
    let options = WriteOptions { will_reset: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, 0x080A_0000, image.len(), options).unwrap();
    let mut bus = crate::bus(Profile::PHOTON_2_3_1);
    let download = Download::new(Link::PHOTON, &plan, element(0x080A_0000, &image), [0; 4096]);
    run(&mut bus, &mut download.unwrap()).unwrap();
    assert_eq!(bus.log.iter().filter(|setup| setup.request == 1 && setup.value > 1).count(), 3);
}

/// Whatever happens inside of a page that keeps other bytes, they are on the device or in `kept_page`.
#[test]
fn what_is_kept_is_never_lost() {
    let image = pattern(31, 7, 100);
    let elements = [element(0x080A_2000, &image)];
    let layout = flash();
    let options = WriteOptions { keep_partial_pages: true, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write_elements(&layout, &elements, options).unwrap();
    let wanted = expected(&elements, true);
    let page = &wanted[0xA_0000..0xC_0000];
    let new = || Download::new(Link::PHOTON, &plan, &elements[..], vec![0; plan.buffer_len(4096)]).unwrap();
    let mut clean = bus(Profile::PHOTON_2_3_1);
    run(&mut clean, &mut new()).unwrap();
    let mut saved = 0;
    for at in 1..=clean.transfers {
        let mut cancelled = bus(Profile::PHOTON_2_3_1);
        let mut actions = 0;
        let mut machine = new();
        let result = drive_while(
            &mut machine,
            &mut cancelled,
            &mut [0; 4096],
            |_| (),
            || {
                actions += 1;
                actions <= at
            },
        );
        assert!(machine.kept_page().is_none(), "a page that was begun is finished");
        let untouched = cancelled.memory.flash == PhotonMemory::new().flash;
        assert!(untouched || cancelled.memory.flash == wanted, "cancelled at {at}: {result:?}");

        let mut cut = bus(Profile::PHOTON_2_3_1);
        cut.faults = vec![(at, Fault::Disconnect)];
        let mut machine = new();
        run(&mut cut, &mut machine).unwrap_err();
        let journal = machine.journal(0);
        match machine.kept_page() {
            Some((unit, content)) => {
                saved += 1;
                assert!((unit.start, unit.size) == (0x080A_0000, 0x2_0000) && content == page, "cut at {at}");
                let lost = JournalError::KeptPageLost { units: 0 };
                assert_eq!(new().resume(&journal).unwrap_err(), lost, "cut at {at}");
            }
            None => {
                assert!(cut.memory.flash == wanted || cut.memory.flash == PhotonMemory::new().flash);
                let mut again = bus(Profile::PHOTON_2_3_1);
                again.memory = cut.memory.clone();
                run(&mut again, &mut new().resume(&journal).unwrap()).unwrap();
                assert!(again.memory.flash == wanted);
            }
        }
    }
    assert!(saved > 60, "the whole time from the erase to the end: {saved}");
}

/// A journal may come from another device, or from a job that read nothing back.
#[test]
fn a_resumed_job_that_verifies_takes_nothing_on_trust() {
    let image = pattern(31, 7, 300_000);
    let elements = [element(0x0802_0000, &image)];
    let layout = flash();
    let plan =
        |verify| Plan::write_elements(&layout, &elements, WriteOptions { verify, ..WriteOptions::DEFAULT });
    let (fast, careful) = (plan(false).unwrap(), plan(true).unwrap());
    let mut first = bus(Profile::PHOTON_2_3_1);
    first.faults = vec![(220, Fault::Disconnect)];
    let mut machine = Download::new(Link::PHOTON, &fast, &elements[..], [0; 4096]).unwrap();
    run(&mut first, &mut machine).unwrap_err();
    let journal = machine.journal(0);
    assert_eq!(journal.units(), 2);
    // Another device, on which nothing was written.
    let mut other = bus(Profile::PHOTON_2_3_1);
    let machine = Download::new(Link::PHOTON, &careful, &elements[..], [0; 4096]).unwrap();
    let mut machine = machine.resume(&journal).unwrap();
    let progress = run(&mut other, &mut machine).unwrap();
    assert!(other.memory.flash == expected(&elements, false));
    assert_eq!(progress.last(), Some(&Progress::Verified { done: 300_000, total: 300_000 }));
    // The same device, with one bit that fell over meanwhile: one page is written again.
    let mut same = bus(Profile::PHOTON_2_3_1);
    same.memory = first.memory.clone();
    same.memory.erased.clear();
    same.memory.flash[0x2_0005] ^= 1;
    let machine = Download::new(Link::PHOTON, &careful, &elements[..], [0; 4096]).unwrap();
    run(&mut same, &mut machine.resume(&journal).unwrap()).unwrap();
    assert!(same.memory.flash == expected(&elements, false));
    assert_eq!(same.memory.erased, [0x0802_0000, 0x0806_0000]);
}

#[test]
fn a_memory_whose_erase_is_void_is_neither_erased_nor_taken_for_blank() {
    let layout = MemoryLayout::parse(Description::PHOTON_ALTERNATES[1].as_bytes()).unwrap();
    let plan = Plan::write(&layout, 34, 612, WriteOptions::DEFAULT).unwrap();
    let mut bus = bus(Profile::PHOTON_2_3_1);
    bus.select(1);
    let image = Element { address: 34, data: &[0xFF; 612] };
    let link = Link::PHOTON.with_alternate(1);
    run(&mut bus, &mut Download::new(link, &plan, image, [0; 4096]).unwrap()).unwrap();
    assert_eq!(bus.memory.dct[34..646], [0xFF; 612], "the key is wiped");
    assert!(bus.memory.dct_erased.is_empty());
}

#[test]
fn a_core_is_not_asked_to_erase_everything() {
    let core = LINK.with_quirks(Quirks::CORE);
    assert_eq!(Special::mass_erase(core).unwrap_err(), PlanError::NoMassErase);
    let layout = flash();
    let options = WriteOptions { erase: EraseMode::Mass, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, 0x080A_0000, 1, options).unwrap();
    let image = element(0x080A_0000, &[0xFF]);
    assert_eq!(Download::new(core, &plan, image, [0; 4096]).unwrap_err(), PlanError::NoMassErase);
}

#[test]
fn a_job_cancelled_during_the_last_block_of_a_page_does_not_erase_the_next() {
    let image = pattern(31, 7, 0x4_0000);
    let elements = [element(0x080A_0000, &image)];
    let layout = flash();
    let plan = Plan::write_elements(&layout, &elements, WriteOptions::DEFAULT).unwrap();
    let mut bus = bus(Profile::PHOTON_2_3_1);
    let mut machine = Download::new(Link::PHOTON, &plan, &elements[..], [0; 4096]).unwrap();
    // An erase and 32 blocks, each with a request, two GETSTATUS and a wait.
    let mut actions = 0;
    let result = drive_while(
        &mut machine,
        &mut bus,
        &mut [0; 4096],
        |_| (),
        || {
            actions += 1;
            actions <= 4 + 32 * 4
        },
    );
    assert!(matches!(result, Err(HostError::Cancelled { .. })), "{result:?}");
    assert_eq!(bus.memory.erased, [0x080A_0000]);
    // Not even begun.
    let mut machine = Download::new(Link::PHOTON, &plan, &elements[..], [0; 4096]).unwrap();
    let transfers = bus.transfers;
    let result = drive_while(&mut machine, &mut bus, &mut [0; 4096], |_| (), || false);
    assert!(matches!(result, Err(HostError::Cancelled { place }) if place.step == Step::Start));
    assert_eq!(bus.transfers, transfers);
}

#[test]
fn small_blocks_keep_to_the_multiple_that_the_device_programs() {
    let image = pattern(31, 7, 5000);
    let mut bus = bus(Profile::STRICT);
    let link = Link { max_block: 1001, ..LINK.with_quirks(Quirks { write_multiple: 4, ..Quirks::NONE }) };
    assert_eq!(link.block_size(), 1000);
    write(&mut bus, link, &[element(0x080A_0000, &image)], WriteOptions::DEFAULT).unwrap();
    assert!(bus.log.iter().filter(|setup| setup.request == 1 && setup.value > 1).all(|s| s.length % 4 == 0));
}

#[test]
fn spans_and_elements_plan_alike() {
    let layout = flash();
    let elements = [element(0x0802_0000, &[1; 10]), element(0x0806_0000, &[2; 20])];
    let spans = [Span { address: 0x0802_0000, len: 10 }, Span { address: 0x0806_0000, len: 20 }];
    let one = Plan::write_elements(&layout, &elements, WriteOptions::DEFAULT).unwrap();
    let other = Plan::write_spans(&layout, &spans, WriteOptions::DEFAULT).unwrap();
    assert!(one.units().eq(other.units()));
    assert_eq!((one.total(), other.total()), (30, 30));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_options_the_image_is_there_and_nothing_else_changes(
        pieces in proptest::collection::vec((0x2_0000_usize..0xF_0000, 1_usize..9000, 0_u8..3), 1..5),
        flags: [bool; 4],
        choice in 0_usize..9,
    ) {
        let [keep, skip_equal, verify, every] = flags;
        let mut elements: Vec<(usize, Vec<u8>)> = Vec::new();
        let before = PhotonMemory::new().flash;
        for (start, len, kind) in pieces {
            if elements.iter().any(|(at, data)| start < at + data.len() && *at < start + len) {
                continue;
            }
            let data = match kind {
                0 => before[start..][..len].to_vec(),
                1 => vec![0xFF; len],
                _ => pattern(31, start, len),
            };
            elements.push((start, data));
        }
        let elements: Vec<_> = elements.iter().map(|(start, data)| element(BASE + start, data)).collect();
        let options = WriteOptions {
            keep_partial_pages: keep,
            skip_equal,
            verify,
            ..WriteOptions::DEFAULT
        };
        let quirks = [Quirks::NONE, Quirks::PHOTON, Quirks::STM32][choice % 3];
        let profile = [Profile::STRICT, Profile::PHOTON_0_5_3, Profile::PHOTON_2_3_1][choice / 3];
        // Only the Photon's class code moves the pointer with an erase.
        let erase_sets_pointer = quirks.erase_sets_pointer && profile != Profile::STRICT;
        let quirks = Quirks { address_every_block: every, erase_sets_pointer, ..quirks };
        let mut bus = bus(profile);
        let progress = write(&mut bus, LINK.with_quirks(quirks), &elements, options).unwrap();
        let written = progress.iter().any(|step| matches!(step, Progress::Written { .. }));
        let read_back = progress.iter().any(|step| matches!(step, Progress::Verified { .. }));
        // What was written is read back if that was asked for, and only then.
        prop_assert!(verify || !read_back);
        prop_assert!(!verify || read_back || !written);
        if keep {
            prop_assert!(bus.memory.flash == expected(&elements, true));
        } else if !skip_equal {
            prop_assert!(bus.memory.flash == expected(&elements, false));
        } else {
            for element in &elements {
                let start = usize::try_from(element.address).unwrap() - BASE;
                prop_assert!(&bus.memory.flash[start..][..element.data.len()] == element.data);
            }
        }
        let mut erased = bus.memory.erased.clone();
        erased.dedup();
        prop_assert_eq!(erased.len(), bus.memory.erased.len());
    }
}
