// Kinesis in memory, on loopback: says its port on a line, and ends with its standard input.
const kinesalite = require(require.resolve('kinesalite', {paths: [process.cwd()]}));

const server = kinesalite({createStreamMs: 1, updateStreamMs: 1, deleteStreamMs: 1, shardLimit: 100});
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
