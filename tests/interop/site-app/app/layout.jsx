export { Layout as default } from "../../shared/pages.jsx";
