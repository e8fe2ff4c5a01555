// The operations that `make bench` measures, as a Node service would serve them: Fastify with its
// schemas, Mercurius with its JIT, a session in PostgreSQL and a budget on Redis for each request.
// From the environment: PORT, DATABASE_URL, REDIS_URL, SESSION_HASH_SECRET, and BUDGET_SCRIPT, the
// script that Twofold runs on Redis.

import { createHmac } from 'node:crypto'
import cors from '@fastify/cors'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import mercurius from 'mercurius'
import pg from 'pg'

const { PORT, DATABASE_URL, REDIS_URL, SESSION_HASH_SECRET, BUDGET_SCRIPT } = process.env
const LIMIT = 1_000_000
const SECONDS = 60
const FIELDS = 'id, user_id, title, description, completed, version, created_at, updated_at'

// --- PostgreSQL and Redis ---------------------------------------------------------------------

// To the microsecond, which a Date does not keep.
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => {
  const [day, time] = text.slice(0, -3).split(' ')
  return `${day}T${time.includes('.') ? time.padEnd(15, '0') : `${time}.000000`}Z`
})

const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 16, options: '-c TimeZone=UTC' })

// A statement with a name is prepared once for each connection.
const run = async (name, text, values) => (await pool.query({ name, text, values })).rows

const redis = new Redis(REDIS_URL, { enableAutoPipelining: true })
redis.defineCommand('spend', { numberOfKeys: 1, lua: BUDGET_SCRIPT })

class Refusal extends Error {
  constructor(statusCode, message) {
    super(message)
    this.statusCode = statusCode
  }
}

async function authenticate(request) {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ')
  if (scheme.toLowerCase() !== 'bearer' || !token) throw new Refusal(401, 'No session')
  const hash = createHmac('sha256', SESSION_HASH_SECRET).update(token).digest('hex')
  const [session] = await run(
    'session',
    'SELECT user_id FROM user_sessions WHERE token_hash = $1 AND NOT revoked AND expires_at > now()',
    [hash],
  )
  if (!session) throw new Refusal(401, 'No session')
  return session.user_id
}

async function charge(reply, kind, user) {
  const [allowed, remaining, , full, now] = await redis.spend(
    `fastify:${kind}:user:${user}`, LIMIT, SECONDS, 1,
  )
  const left = Math.ceil(full / 1e6)
  reply.headers({
    'x-ratelimit-limit': LIMIT,
    'x-ratelimit-remaining': remaining,
    'x-ratelimit-reset': Math.ceil(now / 1e6) + left,
    'ratelimit-policy': `"${kind}";q=${LIMIT};w=${SECONDS}`,
    ratelimit: `"${kind}";r=${remaining};t=${left}`,
  })
  if (!allowed) throw new Refusal(429, 'The budget is spent')
}

// --- Tasks ----------------------------------------------------------------------------------------

const getTask = (user, id) =>
  run('get', `SELECT ${FIELDS} FROM tasks WHERE user_id = $1 AND id = $2`, [user, id])

// One more than the limit shows whether there is more.
async function listTasks(user, limit) {
  const rows = await run(
    'list',
    `SELECT ${FIELDS} FROM tasks WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2`,
    [user, limit + 1],
  )
  return { tasks: rows.slice(0, limit), hasMore: rows.length > limit }
}

const createTask = (user, { title, description = null, completed = false }) =>
  run(
    'create',
    `INSERT INTO tasks (user_id, title, description, completed) VALUES ($1, $2, $3, $4)
     RETURNING ${FIELDS}`,
    [user, title.trim(), description, completed],
  )

const cursor = ({ created_at, id }) => Buffer.from(`${created_at} ${id}`).toString('base64url')

// --- REST -----------------------------------------------------------------------------------------

const app = Fastify({ requestIdHeader: 'x-request-id', genReqId: () => crypto.randomUUID() })

await app.register(cors, { origin: /^https?:\/\/localhost(:\d+)?$/, credentials: true })

app.decorateRequest('user', '')
app.addHook('onSend', async (request, reply) => {
  reply.headers({
    'x-request-id': request.id,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  })
})

const admit = (kind) => async (request, reply) => {
  request.user = await authenticate(request)
  await charge(reply, kind, request.user)
}

const text = { type: 'string' }
const Task = {
  type: 'object',
  properties: {
    id: { type: 'integer' },
    user_id: text,
    title: text,
    description: { type: ['string', 'null'] },
    completed: { type: 'boolean' },
    version: { type: 'integer' },
    created_at: text,
    updated_at: text,
  },
}

app.get('/health/ready', async () => ({ status: 'ok' }))

app.get('/tasks/:id', {
  onRequest: admit('read'),
  schema: {
    params: { type: 'object', properties: { id: { type: 'integer', minimum: 1 } } },
    response: { 200: Task },
  },
  handler: async (request, reply) => {
    const [task] = await getTask(request.user, request.params.id)
    if (!task) throw new Refusal(404, 'No such task')
    reply.headers({ etag: `"${task.version}"`, 'cache-control': 'private, no-cache' })
    return task
  },
})

app.get('/tasks', {
  onRequest: admit('read'),
  schema: {
    querystring: {
      type: 'object',
      additionalProperties: false,
      properties: { limit: { type: 'integer', minimum: 1, maximum: 1000, default: 1000 } },
    },
    response: { 200: { type: 'array', items: Task } },
  },
  handler: async (request, reply) => {
    const { limit } = request.query
    const { tasks, hasMore } = await listTasks(request.user, limit)
    if (hasMore) reply.header('link', `<?limit=${limit}&cursor=${cursor(tasks.at(-1))}>; rel="next"`)
    return tasks
  },
})

app.post('/tasks', {
  onRequest: admit('write'),
  bodyLimit: 64 * 1024,
  schema: {
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['title'],
      properties: {
        title: { type: 'string', minLength: 1, maxLength: 200, pattern: '\\S' },
        description: { type: ['string', 'null'], maxLength: 1000 },
        completed: { type: 'boolean' },
      },
    },
    response: { 201: Task },
  },
  handler: async (request, reply) => {
    const [task] = await createTask(request.user, request.body)
    reply.code(201).headers({ etag: `"${task.version}"`, location: `tasks/${task.id}` })
    return task
  },
})

// --- GraphQL --------------------------------------------------------------------------------------

const schema = `
  scalar DateTime
  type Task {
    id: ID!
    userId: ID!
    title: String!
    description: String
    completed: Boolean!
    version: Int!
    createdAt: DateTime!
    updatedAt: DateTime!
  }
  type TaskEdge { cursor: String!, node: Task! }
  type PageInfo {
    hasNextPage: Boolean!
    hasPreviousPage: Boolean!
    startCursor: String
    endCursor: String
  }
  type TaskConnection {
    nodes: [Task!]!
    edges: [TaskEdge!]!
    pageInfo: PageInfo!
    totalCount: Int!
  }
  input TaskFilter { completed: Boolean }
  input CreateTaskInput { title: String!, description: String, completed: Boolean = false }
  type Query { tasks(first: Int = 50, after: String, filter: TaskFilter): TaskConnection! }
  type Mutation { createTask(input: CreateTaskInput!): Task }
`

const resolvers = {
  Task: {
    userId: (task) => task.user_id,
    createdAt: (task) => task.created_at,
    updatedAt: (task) => task.updated_at,
  },
  TaskConnection: {
    nodes: ({ tasks }) => tasks,
    edges: ({ tasks }) => tasks.map((node) => ({ node, cursor: cursor(node) })),
    pageInfo: ({ tasks, hasMore }) => ({
      hasNextPage: hasMore,
      hasPreviousPage: false,
      startCursor: tasks.length ? cursor(tasks[0]) : null,
      endCursor: tasks.length ? cursor(tasks.at(-1)) : null,
    }),
    totalCount: async (_, __, { user }) => {
      const count = 'SELECT count(*)::int AS n FROM tasks WHERE user_id = $1'
      const [{ n }] = await run('count', count, [user])
      return n
    },
  },
  Query: {
    tasks: async (_, { first }, { user, reply }) => {
      if (first < 1 || first > 1000) throw new mercurius.ErrorWithProps('first is 1 to 1000')
      await charge(reply, 'read', user)
      return listTasks(user, first)
    },
  },
  Mutation: {
    createTask: async (_, { input }, { user, reply }) => {
      if (!input.title.trim() || input.title.length > 200) {
        throw new mercurius.ErrorWithProps('A title has 1 to 200 characters')
      }
      await charge(reply, 'write', user)
      const [task] = await createTask(user, input)
      return task
    },
  },
}

await app.register(mercurius, {
  schema,
  resolvers,
  jit: 1,
  queryDepth: 10,
  context: async (request, reply) => ({ user: await authenticate(request), reply }),
})

await app.listen({ host: '127.0.0.1', port: Number(PORT) })

process.on('SIGTERM', async () => {
  await app.close()
  await pool.end()
  redis.disconnect()
})
