//! Shared by the integration tests: vector files and NOR flash.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, unreachable_pub, reason = "included by several tests, each of which uses a part")]

use spark_dct::wiced::{FlashOp, Initialise, Sector, Sectors, Write};

pub fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&vector(name)).unwrap()
}

/// Two sectors of NOR flash: erase sets all bits, programming only clears them.
#[derive(Clone, PartialEq, Eq)]
pub struct Flash(pub Box<[Sector; 2]>);

impl Flash {
    pub fn blank() -> Self {
        Flash(Box::new([[0xFF; 16384]; 2]))
    }

    pub fn load(name: &str) -> Self {
        let bytes = vector(name);
        let (one, two) = bytes.split_at(16384);
        Flash(Box::new([one.try_into().unwrap(), two.try_into().unwrap()]))
    }

    pub fn dcd(&self) -> spark_dct::dcd::Sectors<'_> {
        spark_dct::dcd::Sectors::new(&self.0[0], &self.0[1])
    }

    /// Digests of both sectors, as the vectors have them.
    pub fn digests(&self) -> [String; 2] {
        use sha2::Digest;
        self.0.each_ref().map(|sector| hex::encode(sha2::Sha256::digest(sector)))
    }

    pub fn sectors(&self) -> Sectors<'_> {
        Sectors::new(&self.0[0], &self.0[1])
    }

    pub fn apply(&mut self, op: FlashOp<'_>) {
        match op {
            FlashOp::Erase { sector } => self.0[sector.index()] = [0xFF; 16384],
            FlashOp::Program { sector, offset, data } => {
                for (cell, byte) in self.0[sector.index()][offset..][..data.len()].iter_mut().zip(data) {
                    *cell &= byte;
                }
            }
            _ => panic!("unknown operation"),
        }
    }

    /// All operations of a write to the other container; their number.
    pub fn run_dcd(&mut self, mut write: spark_dct::dcd::Write<'_>) -> usize {
        let mut count = 0;
        while let Some(op) = write.next_op() {
            self.apply(op);
            count += 1;
        }
        count
    }

    /// Executes at most `limit` operations; true when the write was complete before.
    pub fn write(&mut self, write: &mut Write<'_>, limit: usize) -> bool {
        for _ in 0..limit {
            match write.next_op() {
                Some(op) => self.apply(op),
                None => return true,
            }
        }
        write.next_op().is_none()
    }

    pub fn initialise(&mut self, mut init: Initialise) {
        while let Some(op) = init.next_op() {
            self.apply(op);
        }
    }
}
