// How both sites sign a visitor in: as in the 2022 article, with the backend's three fields.

const { BACKEND_URL, PARENT_DOMAIN } = process.env;

/** `authorize` of the credentials provider: the user with the backend's tokens, or null. */
export async function authorize({ email, password }) {
  const answer = await fetch(`${BACKEND_URL}/auth/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ email, password }),
  });
  if (!answer.ok) return null;
  const tokens = await answer.json();
  const claims = JSON.parse(Buffer.from(tokens.accessToken.split(".")[1], "base64url"));
  return { id: claims.sub, name: claims.name, email: claims.email, ...tokens };
}

export const callbacks = {
  /** Copies the tokens at sign-in. It never refreshes them: that is the gate's part. */
  jwt({ token, user }) {
    if (!user) return token;
    const { accessToken, accessTokenExpiry, refreshToken } = user;
    return { ...token, accessToken, accessTokenExpiry, refreshToken };
  },
  /** Visitors may go back to any host of the same parent. */
  redirect({ url, baseUrl }) {
    const target = new URL(url, baseUrl);
    return target.hostname.endsWith(`.${PARENT_DOMAIN}`) ? target.href : baseUrl;
  },
};

/** The session cookie is shared by all subdomains. */
export const sessionCookie = (name) => ({
  name,
  options: { httpOnly: true, sameSite: "lax", path: "/", secure: false, domain: `.${PARENT_DOMAIN}` },
});

export const fields = { email: { label: "Email" }, password: { label: "Password", type: "password" } };
