import NextAuth from "next-auth5";
import Credentials from "next-auth5/providers/credentials";
import { authorize, callbacks, fields, sessionCookie } from "../shared/backend.mjs";

export const { handlers, auth: session } = NextAuth({
  providers: [Credentials({ credentials: fields, authorize })],
  callbacks,
  session: { strategy: "jwt" },
  useSecureCookies: false,
  trustHost: true,
  cookies: { sessionToken: sessionCookie("authjs.session-token") },
});
