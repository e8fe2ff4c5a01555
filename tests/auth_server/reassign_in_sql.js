// The same, where there is no command: anonymous({ onLinkAccount: reassignIn(pool) }).

export const reassignIn = (pool) => ({ anonymousUser, newUser }) =>
  pool.query(
    `UPDATE twofold.tasks
     SET user_id = $2, version = version + 1, updated_at = greatest(clock_timestamp(), updated_at)
     WHERE user_id = $1 AND user_id <> $2`,
    [anonymousUser.user.id, newUser.user.id],
  );
