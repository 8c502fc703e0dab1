//! File bytes behind checksums: a CRC-32C for each block, made when the file
//! is written and checked at each read. Parquet's own page checksums are
//! optional, and its writer does not make them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::history::options::DiskBudget;

/// Bytes under one checksum: what is read at least. Part of the stored format.
const BLOCK_BYTES: usize = 8_192;

/// A file is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::history) struct Damage(pub String);

/// Writes to a file, counting bytes and making their checksums.
#[derive(Debug)]
pub(super) struct CheckedSink {
    file: File,
    budget: DiskBudget,
    buffer: Vec<u8>,
    checksums: Vec<u32>,
    written: u64,
}

/// How much is written to the file at once; whole blocks.
const BUFFER_BYTES: usize = 32 * BLOCK_BYTES;

impl CheckedSink {
    pub fn new(file: File, budget: DiskBudget) -> Self {
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Self { file, budget, buffer, checksums: Vec::new(), written: 0 }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.budget.take(self.buffer.len())?;
        self.file.write_all(&self.buffer)?;
        self.checksums.extend(self.buffer.chunks(BLOCK_BYTES).map(crc32c::crc32c));
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes all durable; gives the length and the checksums.
    pub fn finish(mut self) -> io::Result<(u64, Vec<u32>)> {
        self.spill()?;
        self.file.sync_all()?;
        Ok((self.written, self.checksums))
    }
}

impl Write for CheckedSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.spill()?;
        }
        let taken = bytes.len().min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from a file and checks what it reads.
#[derive(Debug)]
pub(super) struct CheckedFile {
    file: File,
    len: u64,
    checksums: Vec<u32>,
}

impl CheckedFile {
    /// `len` is the length that was written.
    pub fn new(file: File, len: u64, checksums: Vec<u32>) -> Result<Self, ParquetError> {
        let found = file.metadata().map_err(external)?.len();
        if found != len {
            return Err(external(Damage(format!("it has {found} bytes instead of {len}"))));
        }
        if checksums.len() as u64 != len.div_ceil(BLOCK_BYTES as u64) {
            return Err(external(Damage(
                "the manifest has another number of its blocks".to_owned(),
            )));
        }
        Ok(Self { file, len, checksums })
    }

    pub fn memory_size(&self) -> usize {
        4 * self.checksums.len()
    }

    fn read(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.len);
        let Some(end) = end else {
            return Err(external(Damage(format!("it refers to bytes beyond its end ({start})"))));
        };
        let block = BLOCK_BYTES as u64;
        let first = start / block;
        let from = first * block;
        let to = (end.div_ceil(block) * block).min(self.len);
        let size = usize::try_from(to - from).map_err(external)?;
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, from).map_err(external)?;
        for (number, part) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
            let place = usize::try_from(number).map_err(external)?;
            if self.checksums[place] != crc32c::crc32c(part) {
                let at = number * block;
                return Err(external(Damage(format!("the bytes from {at} fail their checksum"))));
            }
        }
        let skip = usize::try_from(start - from).map_err(external)?;
        Ok(Bytes::from(bytes).slice(skip..skip + length))
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.len
    }
}

/// Reads on from a place, a buffer at a time.
#[derive(Debug)]
pub(super) struct CheckedRead {
    file: Arc<CheckedFile>,
    next: u64,
    buffer: Bytes,
}

impl Read for CheckedRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            let left = usize::try_from(self.file.len - self.next).unwrap_or(usize::MAX);
            let length = left.min(BLOCK_BYTES);
            self.buffer = self.file.read(self.next, length).map_err(io::Error::other)?;
            self.next += length as u64;
        }
        let taken = out.len().min(self.buffer.len());
        out[..taken].copy_from_slice(&self.buffer.split_to(taken));
        Ok(taken)
    }
}

/// A shared handle, as the Parquet reader wants it.
#[derive(Clone, Debug)]
pub(super) struct SharedFile(pub Arc<CheckedFile>);

impl Length for SharedFile {
    fn len(&self) -> u64 {
        self.0.len
    }
}

impl ChunkReader for SharedFile {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(CheckedRead { file: self.0.clone(), next: start.min(self.0.len), buffer: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.read(start, length)
    }
}
