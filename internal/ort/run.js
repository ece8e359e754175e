// Runs an ONNX model on ONNX Runtime: node run.js MODEL DIR off|all|precise
//
// DIR holds the inputs of each run and receives the outputs, see tensors.js.
// The last argument says whether the graph is optimised.
'use strict';
const ort = require('onnxruntime-node');
const { read, Writer } = require('./tensors.js');

async function main(model, dir, level) {
  const options = {
    graphOptimizationLevel: level === 'off' ? 'disabled' : 'all',
    executionProviders: ['cpu'],
    interOpNumThreads: 1,
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
  };
  const runs = read(dir);
  if (level === 'precise') {
    // The numbers below are not those of a session as most people make it; it must load and run.
    const plain = await ort.InferenceSession.create(model, options);
    if (runs.length > 0) await plain.run(runs[0]);
    await plain.release();
    // Without VNNI the kernels for u8 activations and s8 weights add two products
    // in 16 bits, which saturates; with this entry the weights become u8.
    // MatMul with int4 blocks of weights would also round the activations to 8 bits.
    options.extra = { session: { x64quantprecision: '1', qdq_matmulnbits_accuracy_level: '0' } };
  }
  const session = await ort.InferenceSession.create(model, options);
  const out = new Writer(dir);
  for (const feeds of runs) out.add(session.outputNames, await session.run(feeds));
  out.close();
}

main(...process.argv.slice(2)).catch((e) => {
  process.stderr.write(`${e.message || e}\n`);
  process.exit(1);
});
