// Tensors in files, as ort.go writes and reads them: a list of {name, type,
// dims, offset, bytes} and the bytes in another file.
'use strict';
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');

const arrays = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bfloat16: Uint16Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array,
  uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, bool: Uint8Array,
};

// read returns the feeds of each run from DIR/in.json and DIR/in.bin.
exports.read = (dir) => {
  const bytes = fs.readFileSync(path.join(dir, 'in.bin'));
  return JSON.parse(fs.readFileSync(path.join(dir, 'in.json'), 'utf8')).map((run) => {
    const feeds = {};
    for (const t of run) {
      const raw = new Uint8Array(bytes.subarray(t.offset, t.offset + t.bytes)).buffer; // a copy is aligned
      feeds[t.name] = new ort.Tensor(t.type, new arrays[t.type](raw), t.dims);
    }
    return feeds;
  });
};

// Writer writes the outputs of each run to DIR/out.json and DIR/out.bin.
exports.Writer = class {
  constructor(dir) {
    this.dir = dir;
    this.file = fs.openSync(path.join(dir, 'out.bin'), 'w');
    this.runs = [];
    this.offset = 0;
  }

  add(names, fetched) {
    this.runs.push(names.map((name) => {
      const t = fetched[name];
      if (!arrays[t.type]) throw new Error(`output ${name} is ${t.type}, which this program cannot store`);
      const raw = new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);
      fs.writeSync(this.file, raw);
      const entry = { name, type: t.type, dims: t.dims, offset: this.offset, bytes: raw.length };
      this.offset += raw.length;
      return entry;
    }));
  }

  close() {
    fs.closeSync(this.file);
    fs.writeFileSync(path.join(this.dir, 'out.json'), JSON.stringify(this.runs));
  }
};
