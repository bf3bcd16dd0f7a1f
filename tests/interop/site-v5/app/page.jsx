export { Home as default } from "../../shared/pages.jsx";
export const dynamic = "force-dynamic";
