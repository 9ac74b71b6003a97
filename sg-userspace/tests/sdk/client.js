// Calls of an official Node SDK: a line of JSON in, a line of JSON out.
// Arguments: the client (tea, pop), the endpoint, and a file with the key.
'use strict';
const fs = require('fs');
const readline = require('readline');
const [kind, endpoint, keyFile] = process.argv.slice(2);
const key = JSON.parse(fs.readFileSync(keyFile));

const lower = (name) => name[0].toLowerCase() + name.slice(1);
const camel = (value) => {
  if (Array.isArray(value)) return value.map(camel);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [lower(k), camel(v)]));
};

function tea() {
  const Ecs = require('@alicloud/ecs20140526');
  const { Config } = require('@alicloud/openapi-core').$OpenApiUtil;
  const client = new Ecs.default(new Config({
    accessKeyId: key.AccessKeyId,
    accessKeySecret: key.AccessKeySecret,
    endpoint,
    protocol: 'HTTP',
  }));
  return async (action, params) => {
    const request = new Ecs[action + 'Request'](camel(params));
    const answer = await client[lower(action)](request);
    return answer.body.toMap ? answer.body.toMap() : answer.body;
  };
}

function flat(params, prefix = '') {
  const all = {};
  for (const [name, value] of Object.entries(params)) {
    if (Array.isArray(value)) {
      value.forEach((item, i) => {
        if (typeof item === 'object') Object.assign(all, flat(item, `${prefix}${name}.${i + 1}.`));
        else all[`${prefix}${name}.${i + 1}`] = item;
      });
    } else if (typeof value === 'object') {
      Object.assign(all, flat(value, `${prefix}${name}.`));
    } else {
      all[prefix + name] = value;
    }
  }
  return all;
}

function pop() {
  const Core = require('@alicloud/pop-core');
  const client = new Core({
    accessKeyId: key.AccessKeyId,
    accessKeySecret: key.AccessKeySecret,
    endpoint: `http://${endpoint}`,
    apiVersion: '2014-05-26',
  });
  let posts = false;
  return (action, params) => {
    // Both ways that it has.
    posts = !posts;
    return client.request(action, flat(params), { method: posts ? 'POST' : 'GET' });
  };
}

const call = kind === 'pop' ? pop() : tea();
console.log(JSON.stringify({ ready: kind }));
const lines = readline.createInterface({ input: process.stdin });
let chain = Promise.resolve();
lines.on('line', (line) => {
  chain = chain.then(async () => {
    const asked = JSON.parse(line);
    let answer;
    try {
      answer = { body: await call(asked.action, asked.params) };
    } catch (e) {
      const status = e.statusCode || (e.entry && e.entry.response && e.entry.response.statusCode);
      answer = { code: String(e.code), status: status || null, message: String(e.message) };
    }
    console.log(JSON.stringify(answer));
  });
});
