// The other Kinesis in memory, which knows about children of shards. It listens everywhere unless
// it is held to loopback; says the port of its door without TLS on a line.
const net = require('net');
const path = require('path');

const main = require.resolve('kinesis-local', {paths: [process.cwd()]});
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (options, ...rest) {
  const place = typeof options === 'object' ? options : {port: options};
  const plain = place.port === Number(process.env.KINESIS_MOCK_PLAIN_PORT);
  this.once('listening', () => plain && console.log(`port ${this.address().port}`));
  return listen.call(this, {...place, port: 0, host: '127.0.0.1'}, ...rest.filter((each) => typeof each === 'function'));
};
process.chdir(path.dirname(main)); // where its certificate lies
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
require(main);
