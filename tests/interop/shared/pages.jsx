import { headers } from "next/headers";

export function Layout({ children }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}

export function Home() {
  return <h1 data-testid="title">{process.env.SITE_NAME}: home, open to everyone</h1>;
}

/** Shows what reached this site, and whom its own library takes the visitor for. */
export async function Received({ title, session }) {
  const authorization = (await headers()).get("authorization") ?? "";
  return (
    <main>
      <h1 data-testid="title">
        {process.env.SITE_NAME}: {title}
      </h1>
      <p>
        Session of <b data-testid="user">{session?.user?.email ?? "nobody"}</b>
      </p>
      <pre data-testid="authorization" style={{ whiteSpace: "pre-wrap", wordBreak: "break-all" }}>
        {authorization}
      </pre>
      <form method="post" action="/.foregate/sign-out">
        <input type="hidden" name="callbackUrl" value="/" />
        <button data-testid="sign-out">Sign out</button>
      </form>
    </main>
  );
}

/** The same for scripts. */
export async function whoami(session) {
  const received = await headers();
  const cookies = (received.get("cookie") ?? "").split(";").map((pair) => pair.split("=")[0].trim());
  return Response.json({
    site: process.env.SITE_NAME,
    authorization: received.get("authorization"),
    cookies,
    user: session?.user?.email ?? null,
  });
}
