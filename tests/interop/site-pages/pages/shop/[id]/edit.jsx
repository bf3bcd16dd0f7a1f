import { served } from "../../../../shared/served.jsx";

export { Shown as default } from "../../../../shared/served.jsx";

export const getServerSideProps = () => ({ props: { text: served("edit") } });
