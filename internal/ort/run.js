// Runs an ONNX model on ONNX Runtime: node run.js MODEL DIR off|all
//
// DIR holds the inputs of each run and receives the outputs, see tensors.js.
// The last argument says whether the graph is optimised.
'use strict';
const ort = require('onnxruntime-node');
const { read, Writer } = require('./tensors.js');

async function main(model, dir, level) {
  const session = await ort.InferenceSession.create(model, {
    graphOptimizationLevel: level === 'all' ? 'all' : 'disabled',
    executionProviders: ['cpu'],
    interOpNumThreads: 1,
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const out = new Writer(dir);
  for (const feeds of read(dir)) out.add(session.outputNames, await session.run(feeds));
  out.close();
}

main(...process.argv.slice(2)).catch((e) => {
  process.stderr.write(`${e.message || e}\n`);
  process.exit(1);
});
