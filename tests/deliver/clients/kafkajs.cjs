// Prints key and value of the first records of a topic, a line each: broker, topic, how many.
const { Kafka, logLevel } = require('kafkajs');

const [broker, topic, count] = process.argv.slice(2);
const consumer = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR }).consumer({ groupId: `${topic}-kafkajs` });
let left = Number(count);

(async () => {
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(payload.error);
    process.exit(1);
  });
  await consumer.run({
    eachMessage: async ({ message }) => {
      console.log(`${message.key}\t${message.value}`);
      if (--left === 0) process.exit(0);
    },
  });
})();
