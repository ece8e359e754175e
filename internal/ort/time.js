// Times an ONNX model on ONNX Runtime: node time.js MODEL DIR THREADS
//
// DIR holds the inputs of one run, see tensors.js; the outputs are written there
// once. Then each line on standard input is a number of runs to
// make, answered by {ms: of each, cpu: processor time of all threads, per run}, in milliseconds.
// Only session.run is timed, with inputs and outputs that exist before.
'use strict';
const readline = require('readline');
const ort = require('onnxruntime-node');
const { read, Writer } = require('./tensors.js');

async function main(model, dir, threads) {
  const options = {
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    executionProviders: ['cpu'],
    interOpNumThreads: 1,
    intraOpNumThreads: Number(threads),
    enableCpuMemArena: true,
    enableMemPattern: true,
    logSeverityLevel: 3,
  };
  const session = await ort.InferenceSession.create(model, options);
  const feeds = read(dir)[0];
  const fetches = await session.run(feeds);
  const out = new Writer(dir);
  out.add(session.outputNames, fetches);
  out.close();
  console.log(JSON.stringify({ version: ort.env.versions.node, node: process.version, options }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const ms = new Array(Number(line));
    const before = process.cpuUsage();
    for (let i = 0; i < ms.length; i++) {
      const start = process.hrtime.bigint();
      await session.run(feeds, fetches);
      ms[i] = Number(process.hrtime.bigint() - start) / 1e6;
    }
    const used = process.cpuUsage(before);
    console.log(JSON.stringify({ ms, cpu: (used.user + used.system) / 1e3 / ms.length }));
  }
}

main(...process.argv.slice(2)).catch((e) => {
  process.stderr.write(`${e.message || e}\n`);
  process.exit(1);
});
