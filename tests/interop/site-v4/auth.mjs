import NextAuth, { getServerSession } from "next-auth";
import Credentials from "next-auth/providers/credentials";
import { authorize, callbacks, fields, sessionCookie } from "../shared/backend.mjs";

const options = {
  providers: [Credentials({ credentials: fields, authorize })],
  callbacks,
  session: { strategy: "jwt" },
  useSecureCookies: false,
  cookies: { sessionToken: sessionCookie("next-auth.session-token") },
};

export const handler = NextAuth(options);
export const session = () => getServerSession(options);
