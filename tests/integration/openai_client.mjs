// SPDX-License-Identifier: Apache-2.0
// The official client, unchanged, on one line of JSON: {"url","key","call","args"} → what came of it, as JSON.
import { pathToFileURL } from "node:url";

const { url, key, call, args } = JSON.parse(process.argv[3]);
const { default: OpenAI } = await import(pathToFileURL(process.argv[2]).href);
const client = new OpenAI({ apiKey: key, baseURL: url, maxRetries: 0 });

const calls = {
  chat: async () => client.chat.completions.create(args),
  stream: async () => {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...args, stream: true })) chunks.push(chunk);
    return { chunks };
  },
  // The client's own helper, which puts a stream together again.
  runner: async () => {
    const stream = client.chat.completions.stream(args);
    return { completion: await stream.finalChatCompletion(), usage: await stream.totalUsage() };
  },
  // The client's own loop of tools.
  tools: async () => {
    const seen = [];
    const runner = client.chat.completions.runTools({
      ...args,
      tools: [{
        type: "function",
        function: {
          name: "weather",
          description: "The weather of a town.",
          parameters: { type: "object", properties: { town: { type: "string" } } },
          parse: JSON.parse,
          function: ({ town }) => { seen.push(town); return `sunny in ${town}`; },
        },
      }],
    });
    return { content: await runner.finalContent(), seen };
  },
  models: async () => { const all = []; for await (const m of client.models.list()) all.push(m); return { all }; },
  model: async () => client.models.retrieve(args.model),
};

try {
  console.log(JSON.stringify({ ok: await calls[call]() }));
} catch (e) {
  console.log(JSON.stringify({ error: { class: e.constructor.name, status: e.status ?? null, code: e.code ?? null,
                                        param: e.param ?? null, type: e.type ?? null, message: e.message } }));
}
