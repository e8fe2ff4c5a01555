// How orval's functions reach the service: where it is, whose token is sent, and an answer with
// its status, which tells its type.

const base = process.env["TWOFOLD_URL"] ?? "http://127.0.0.1:8000";
const token = process.env["TWOFOLD_TOKEN"] ?? "";

export const http = async <Answer>(path: string, options: RequestInit): Promise<Answer> => {
  const headers = new Headers(options.headers);
  headers.set("Authorization", `Bearer ${token}`);
  const response = await fetch(new URL(path, base), { ...options, headers });
  const text = await response.text();
  const data: unknown = text === "" ? undefined : JSON.parse(text);
  return { data, status: response.status, headers: response.headers } as Answer;
};
