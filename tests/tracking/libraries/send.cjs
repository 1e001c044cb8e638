// Sends mixed calls with Segment's own library for Node: node send.cjs HOST WRITE_KEY NAME COUNT
// Fails unless the library says of every call that it was delivered.
const { Analytics } = require('@segment/analytics-node')

const [host, writeKey, name, count] = process.argv.slice(2)
const analytics = new Analytics({ host, writeKey, flushAt: 250, flushInterval: 200, maxRetries: 1000 })
let open = 0
let failed = 0
const done = (error) => {
  open -= 1
  if (error) {
    failed += 1
    console.error(String(error))
  }
}

function send(n) {
  open += 1
  const userId = `u${n % 1000}`
  const common = { messageId: `${name}-${n}`, userId, timestamp: new Date(Date.UTC(2024, 4, 1, 0, 0, n % 86400)) }
  switch (n % 10) {
    case 0: return analytics.identify({ ...common, traits: { [name]: true } }, done)
    case 1: return analytics.page({ ...common, name: 'Home', properties: { n } }, done)
    case 2: return analytics.screen({ ...common, name: 'Main', properties: { n } }, done)
    case 3: return analytics.group({ ...common, groupId: `g${n % 7}` }, done)
    case 4: return analytics.alias({ messageId: common.messageId, userId, previousId: `visitor-${n}` }, done)
    default: return analytics.track({ ...common, event: 'Order Completed', properties: { revenue: 1, n } }, done)
  }
}

async function main() {
  for (let n = 0; n < Number(count); n += 1) {
    send(n)
    // One in ten a second time.
    if (n % 10 === 7) send(n)
    while (open > 5000) await new Promise((resolve) => setTimeout(resolve, 10))
  }
  await analytics.closeAndFlush({ timeout: 120000 })
  process.exit(failed || open ? 1 : 0)
}
main()
