//! `spark-ota`: what is inside of modules, and the way of modules over USB.

use crate::input::Input;
use spark_ota::flashing::{Options, Target, plan};
use spark_ota::module::bundle::{Bundle, Limits, files};
use spark_ota::module::{
    Asset, CompressOptions, Compressed, CompressedHeader, Dependency, Flags, Module, ModuleBuilder,
    ModuleEditor, ModuleFunction, Modules, Prefix, combine, compress, decompress, resign_at,
};

/// A module of these flags with `content` between prefix and suffix, and any size in its suffix.
fn wrap(function: u8, flags: u8, content: &[u8], suffix_size: u16) -> Vec<u8> {
    let prefix = Prefix {
        start_address: 0x0010_0000,
        end_address: 0x0010_0000 + content.len() as u32 + 60,
        flags: Flags(flags),
        platform_id: 32,
        function: ModuleFunction::from_number(function),
        index: 1,
        ..Prefix::decode(&[0; 24])
    };
    let mut file = prefix.encode().to_vec();
    file.extend(content);
    file.extend([0; 34]);
    file.extend(suffix_size.to_le_bytes());
    file.extend([0; 4]);
    resign_at(&mut file, 0).expect("a module of its own length");
    file
}

/// Any extensions, behind the prefix or before the suffix: what can be read is written the same, the pieces are the whole
/// module, and an edit that changes nothing keeps what was there.
pub fn extensions(data: &[u8]) {
    let mut input = Input::new(data);
    let (flags, function, size) = (input.byte(), input.byte(), input.byte());
    let content = input.rest();
    let size = if size == 255 { 0xffff } else { 36 + u16::from(size) };
    let file = wrap(1 + function % 9, flags & 0x1f, content, size);
    let Ok(module) = Module::parse_at(&file, 0) else { return };
    assert!(module.crc_ok() && module.sha256_ok());
    let mut count = 0;
    for item in module.extensions() {
        let Ok(item) = item else { break };
        count += 1;
        let mut raw = vec![0; item.extension.encoded_len().expect("it was read")];
        let written = item.extension.encode_into(&mut raw).expect("room for it");
        assert_eq!(written, &file[item.offset..item.offset + written.len()]);
    }
    assert!(count <= file.len() / 4 + 1, "extensions do not end");
    let _ = (module.product(), module.asset_dependencies().count(), Asset::new(&module).is_ok());
    if let Ok(parts) = module.parts() {
        let pieces = [parts.vector_table, parts.prefix_extensions, parts.body, parts.suffix_extensions];
        assert_eq!(pieces.iter().map(|piece| piece.len()).sum::<usize>() + 64, file.len());
    }
    let Ok(editor) = ModuleEditor::new(&file) else { return };
    let Ok(edited) = editor.finish() else { return };
    let again = Module::parse(&edited).expect("an edited module");
    assert!(again.crc_ok() && again.sha256_ok());
    let kept = |module: &Module<'_>| {
        let kinds = module.extensions().map_while(Result::ok).map(|item| item.extension.kind());
        kinds.filter(|kind| *kind != 0).collect::<Vec<_>>()
    };
    assert_eq!((kept(&again), again.product()), (kept(&module), module.product()));
    let editor = ModuleEditor::new(&edited).expect("an edited module");
    assert_eq!(editor.finish().as_deref(), Ok(&edited[..]), "an edit is stable");
}

/// Any compressed data: never more comes out than the header says and the limit allows. Any original: it comes back.
pub fn compressed(data: &[u8]) {
    const LIMIT: usize = 1 << 16;
    let mut input = Input::new(data);
    let (flags, bits, size) = (input.byte(), input.byte(), input.word());
    let content = input.rest();
    let header =
        CompressedHeader { size: 8, method: flags >> 7, window_bits: bits & 15, original_size: size.into() };
    let body = [&header.encode(), content].concat();
    let file = wrap(4, flags & 0x11 | 2, &body, 36);
    if let Ok(module) = Module::parse_at(&file, 0) {
        if let Ok(compressed) = Compressed::new(&module)
            && let Ok(inflated) = compressed.inflate(LIMIT)
        {
            assert_eq!(inflated.len(), usize::from(size));
        }
        if let Ok(original) = decompress(&module, LIMIT) {
            let original = Module::parse(&original).expect("an original module");
            assert!(original.crc_ok());
        }
    }
    let drop_info = Flags(flags & 1);
    let builder = ModuleBuilder::new(13, ModuleFunction::System, 1, 6).start_address(0x3_0000);
    let original = builder.flags(drop_info).body(content).build().expect("a module");
    let options = CompressOptions { level: flags >> 4, window_bits: bits >> 4 };
    if let Ok(file) = compress(&original, options) {
        let module = Module::parse(&file).expect("a compressed module");
        assert_eq!(decompress(&module, LIMIT.max(original.len())).as_deref(), Ok(&original[..]));
        let inside = if drop_info == Flags::DROP_INFO { content.len() } else { original.len() };
        assert_eq!(decompress(&module, 16).is_ok(), inside <= 16);
    }
}

/// Any archive: nothing above the limits comes out, and a bundle that was read is written so that it reads the same.
pub fn bundle(data: &[u8]) {
    let limits = Limits { entries: 8, file_len: 1 << 16, total_len: 1 << 17 };
    if let Ok(files) = files(data, limits, |_| true) {
        assert!(files.len() <= limits.entries);
        let total: u64 = files.iter().map(|file| file.content.len() as u64).sum();
        assert!(
            total <= limits.total_len
                && files.iter().all(|file| file.content.len() as u64 <= limits.file_len)
        );
        assert!(
            files
                .iter()
                .all(|file| !file.name.starts_with('/') && !file.name.split('/').any(|part| part == ".."))
        );
    }
    let Ok(bundle) = Bundle::read(data, limits) else { return };
    let check = bundle.check();
    let Ok(written) = bundle.write() else { return };
    // Names with empty parts are written as they are, and may then be folders.
    if let Ok(again) = Bundle::read(&written, limits) {
        assert_eq!((&again, again.check()), (&bundle, check));
    }
}

/// Any files: a plan writes what is in them, to where the platform has it, and nothing twice; or they are refused.
pub fn flashing(data: &[u8]) {
    let mut input = Input::new(data);
    let (choice, platform) = (input.byte(), input.byte());
    let target = &Target::ALL[usize::from(platform) % Target::ALL.len()];
    let options = Options {
        factory: choice & 1 != 0,
        update: choice & 2 != 0,
        force: choice & 4 != 0,
        leave: [None, Some(true), Some(false), None][usize::from(choice >> 3 & 3)],
    };
    let mut contents = Vec::new();
    while !input.is_empty() && contents.len() < 12 {
        let [kind, function, index, version] = input.array();
        let body = input.block();
        if kind & 0xc0 == 0xc0 {
            contents.push(body.to_vec());
            continue;
        }
        let platform_id = if kind & 7 == 7 { 6 } else { target.platform_id };
        let function = ModuleFunction::from_number(function % 10);
        let place =
            target.places.iter().filter(|place| place.function == function).nth(usize::from(kind >> 5 & 1));
        let start = place.map_or(0x0800_0000, |place| place.region.address);
        let needs = [Dependency::system(1, u16::from(version) << 4), Dependency::NONE];
        let body = body.repeat(1 << (kind >> 3 & 3));
        let flags = if kind & 0x40 != 0 { Flags(version & 0x0f) } else { Flags(0) };
        let builder = ModuleBuilder::new(platform_id, function, index % 4, version.into());
        let file = builder
            .start_address(start)
            .depends_on(needs)
            .body(&body)
            .flags(flags)
            .build()
            .expect("a module");
        // Two in one file.
        match contents.last_mut() {
            Some(last) if kind & 0x80 != 0 => {
                if let Ok(both) = combine(&[last, &file]) {
                    *last = both;
                }
            }
            _ => contents.push(file),
        }
    }
    let refs: Vec<&[u8]> = contents.iter().map(|file| &file[..]).collect();
    let plan = match plan(target, &refs, options) {
        Ok(plan) => plan,
        Err(refusal) => {
            assert!(refusal.file().is_none_or(|file| file < contents.len()));
            return;
        }
    };
    assert!(!plan.steps.is_empty());
    let end = |step: &spark_ota::flashing::Step<'_>| u64::from(step.address) + step.bytes.len() as u64;
    for (number, step) in plan.steps.iter().enumerate() {
        assert!(!step.bytes.is_empty() && end(step) <= 1 << 32);
        assert_eq!(step.bytes.len() % usize::from(target.write_padding), 0);
        assert!(!step.leave || number + 1 == plan.steps.len());
        if let Some(file) = step.file {
            let (file, padded) = (&contents[file], usize::from(target.write_padding) - 1);
            let written = &step.bytes[..step.bytes.len() - padded];
            assert!(file.windows(written.len()).any(|window| window == written), "bytes of no file");
        }
        for other in
            plan.steps.iter().skip(number + 1).filter(|other| other.file.is_some() && step.file.is_some())
        {
            assert!(
                step.alternate != other.alternate
                    || end(step) <= other.address.into()
                    || end(other) <= step.address.into()
            );
        }
    }
    for file in &contents {
        assert!(Modules::of(file).count() <= file.len() / 64 + 1);
    }
}
