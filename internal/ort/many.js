// Runs one ONNX model after another: node many.js, then on each line of standard input
// {model, dir, level}. DIR holds the inputs of one run and receives the outputs, see
// tensors.js. The answer is {error: what went wrong, "" if nothing}.
'use strict';
const readline = require('readline');
const ort = require('onnxruntime-node');
const { read, Writer } = require('./tensors.js');

async function once({ model, dir, level }) {
  const session = await ort.InferenceSession.create(model, {
    graphOptimizationLevel: level === 'all' ? 'all' : 'disabled',
    executionProviders: ['cpu'],
    interOpNumThreads: 1,
    intraOpNumThreads: 1,
    logSeverityLevel: 4,
  });
  try {
    const fetched = await session.run(read(dir)[0]);
    const out = new Writer(dir);
    out.add(session.outputNames, fetched);
    out.close();
  } finally {
    await session.release();
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let error = '';
    await once(JSON.parse(line)).catch((e) => { error = String(e.message || e) || 'unknown'; });
    console.log(JSON.stringify({ error }));
  }
}

main();
