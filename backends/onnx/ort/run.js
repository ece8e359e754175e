// Runs an ONNX model on ONNX Runtime: node run.js MODEL DIR off|all
//
// DIR/in.json lists runs; each is a list of {name, type, dims, offset, bytes}
// that name tensors in DIR/in.bin. Results go to DIR/out.json and DIR/out.bin in
// the same form. The last argument says whether the graph is optimised.
'use strict';
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');

const arrays = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bfloat16: Uint16Array,
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array,
  uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array, bool: Uint8Array,
};

async function main(model, dir, level) {
  const session = await ort.InferenceSession.create(model, {
    graphOptimizationLevel: level === 'all' ? 'all' : 'disabled',
    executionProviders: ['cpu'],
    interOpNumThreads: 1,
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const bytes = fs.readFileSync(path.join(dir, 'in.bin'));
  const out = fs.openSync(path.join(dir, 'out.bin'), 'w');
  const results = [];
  let offset = 0;
  for (const run of JSON.parse(fs.readFileSync(path.join(dir, 'in.json'), 'utf8'))) {
    const feeds = {};
    for (const t of run) {
      const raw = new Uint8Array(bytes.subarray(t.offset, t.offset + t.bytes)).buffer; // a copy is aligned
      feeds[t.name] = new ort.Tensor(t.type, new arrays[t.type](raw), t.dims);
    }
    const fetched = await session.run(feeds);
    results.push(session.outputNames.map((name) => {
      const t = fetched[name];
      if (!arrays[t.type]) throw new Error(`output ${name} is ${t.type}, which this program cannot store`);
      const raw = new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);
      fs.writeSync(out, raw);
      const entry = { name, type: t.type, dims: t.dims, offset, bytes: raw.length };
      offset += raw.length;
      return entry;
    }));
  }
  fs.closeSync(out);
  fs.writeFileSync(path.join(dir, 'out.json'), JSON.stringify(results));
}

main(...process.argv.slice(2)).catch((e) => {
  process.stderr.write(`${e.message || e}\n`);
  process.exit(1);
});
